"""The tables of schema `scheduler` (SQLAlchemy Core), a file per concern."""

from services.scheduler.tables.delayed import cancellation, delayed
from services.scheduler.tables.schema import metadata
from services.scheduler.tables.tasks import occurrence, task

__all__ = ["cancellation", "delayed", "metadata", "occurrence", "task"]
