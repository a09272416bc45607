"""Why there may be no embedded Kafka on a machine."""

from deploy.local.errors import StackError

INSTEAD = "or set MILENA_KAFKA_BOOTSTRAP_SERVERS to a broker you have"


class KafkaUnavailable(StackError):
    """The embedded Kafka cannot be had on this machine; the message says what to install."""
