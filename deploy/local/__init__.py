"""The embedded stack: Apache Kafka, PostgreSQL, a mail catcher and every service on one machine."""
