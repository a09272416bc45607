"""Apache Kafka itself, as a single KRaft node on loopback."""

from deploy.local.kafka.broker import EmbeddedKafka
from deploy.local.kafka.unavailable import KafkaUnavailable

__all__ = ["EmbeddedKafka", "KafkaUnavailable"]
