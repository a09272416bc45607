"""Apache Kafka itself, as a single KRaft node on loopback."""

from deploy.local.kafka.broker import EmbeddedKafka
from deploy.local.kafka.jars import KafkaUnavailable, prepare_jars

__all__ = ["EmbeddedKafka", "KafkaUnavailable", "prepare_jars"]
