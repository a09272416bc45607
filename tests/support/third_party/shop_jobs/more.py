"""Jobs that nobody's entry point names: for MILENA_JOB_MODULES."""

from services.scheduler.jobs import job


@job("shop.more")
def more() -> str:
    """Say something."""
    return "more"
