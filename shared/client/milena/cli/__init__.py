"""`milena send | status | tail | retry | cancel`."""

from milena.cli.commands import main

__all__ = ["main"]
