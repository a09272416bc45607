"""What a test gets from the real servers: a database, topics and services of its own."""

from dataclasses import dataclass

from shared.kafka_access import KafkaAccess
from shared.topics import Topics

MASTER_SECRET = "a-master-secret-for-tests-only-0123456789"


@dataclass(frozen=True)
class Stack:
    """One test's share of the real servers."""

    bootstrap_servers: str
    topic_prefix: str
    database_url: str

    @property
    def kafka(self) -> KafkaAccess:
        """What clients of ours are given."""
        return KafkaAccess(self.bootstrap_servers)

    @property
    def topics(self) -> Topics:
        """The names of this test's four topics."""
        return Topics(self.topic_prefix)

    def env(self) -> dict[str, str]:
        """The environment that points a service at this share."""
        return {
            "MILENA_KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "MILENA_TOPIC_PREFIX": self.topic_prefix,
            "MILENA_DATABASE_URL": self.database_url,
            "MILENA_MASTER_SECRET": MASTER_SECRET,
            "MILENA_CALLBACK_ALLOWED_NETWORKS": "127.0.0.0/8,::1/128",
            "MILENA_LOG_LEVEL": "INFO",
            "MILENA_LOG_FORMAT": "text",
        }
