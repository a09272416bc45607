"""``python -m deploy.local.kafka``: fetch Kafka's jars, so that nothing later has to."""

import sys

from deploy.local.errors import StackError
from deploy.local.kafka.jars import prepare_jars
from deploy.local.settings import read_cache_settings


def main() -> None:
    """Fetch the jars unless they are there; exit code 1 and one line when they cannot be had."""
    try:
        prepare_jars(read_cache_settings().directory.absolute(), print)
    except StackError as exc:
        print(f"milena: {exc}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
