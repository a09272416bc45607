"""Fills the registry: modules that are named, and packages that are installed."""

from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

import structlog

from services.scheduler.jobs import FUNCTIONS, find_job, job
from services.scheduler.runs.job import InvalidJob, Job

log = structlog.get_logger(__name__)

ENTRY_POINTS = "milena.jobs"


def load_jobs(modules: Iterable[str]) -> dict[str, Job]:
    """Import what registers jobs, and give them all by name.

    A module that is named and cannot be imported stops the start (InvalidJob): its tasks would all fail. A package
    that merely is installed does not.
    """
    for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda point: point.name):
        _load_package(point)
    for module in modules:
        try:
            import_module(module)
        except (Exception, SystemExit) as exc:
            raise InvalidJob(f"MILENA_JOB_MODULES: {module} cannot be imported: {type(exc).__name__}: {exc}") from exc
    return list_jobs()


def list_jobs() -> dict[str, Job]:
    """Every job, by name. Raises InvalidJob for a plain function that was put there and cannot be one."""
    return {name: found for name in sorted(FUNCTIONS) if (found := find_job(name))}


def _load_package(point: EntryPoint) -> None:
    """`reports = shop.tasks`: a module whose decorators register; a function that none has registered is `reports`."""
    try:
        loaded = point.load()
        if callable(loaded) and not any(_is_function(known, loaded) for known in FUNCTIONS.values()):
            job(point.name)(loaded)
    except (Exception, SystemExit):
        package = point.dist.name if point.dist else "?"
        log.exception("jobs of a package could not be loaded", package=package, entry_point=point.value)


def _is_function(known: object, function: object) -> bool:
    return (known.function if isinstance(known, Job) else known) is function
