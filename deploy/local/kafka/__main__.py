"""``python -m deploy.local.kafka``: fetch Kafka's jars, so that nothing later has to."""

import sys

from deploy.local.errors import StackError
from deploy.local.kafka.jars import prepare_jars
from deploy.local.kafka.java import find_java
from deploy.local.settings import read_cache_settings


def main() -> None:
    """Fetch the jars unless they are there; exit code 1 and one line when they cannot be had."""
    try:
        cache = read_cache_settings()
        prepare_jars(cache.directory.absolute(), find_java(cache.java_home), print)
    except StackError as exc:
        print(f"milena: {exc}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
