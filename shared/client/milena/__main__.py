"""`python -m milena` is `milena`."""

from milena.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
