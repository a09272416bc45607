"""`manage.py milena_import_beat`: django_celery_beat's periodic tasks become Milena's."""

from argparse import ArgumentParser
from collections import Counter
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from milena.django.beat.importing import Act, BeatImport, Outcome, list_known_jobs
from milena.django.beat.tasks import Job, Jobs
from milena.django.settings import connect, read_configuration
from milena.errors import MilenaError

_WOULD = {Act.CREATED: "would create", Act.UPDATED: "would update", Act.SKIPPED: "would skip", Act.LEFT_OUT: "left out"}


class Command(BaseCommand):
    """Reads the rows of this project's database, and makes tasks over HTTP. It changes nothing in Django."""

    help = "Make Milena's tasks of django_celery_beat's periodic tasks, and say what cannot be mapped"

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Say what may be given."""
        parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
        parser.add_argument("--update", action="store_true", help="change tasks that exist to be like their rows")
        parser.add_argument(
            "--job", action="append", default=[], metavar="TASK=JOB", help="which job does what this Celery task did"
        )
        parser.add_argument(
            "--external", action="store_true", help="have tasks without a job published on schedule.tick for others"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Raises CommandError where a row was left out."""
        rows = _find_rows()
        try:
            client = connect(read_configuration())
            jobs = Jobs(_read_mapping(options["job"]), list_known_jobs(client), options["external"])
            work = BeatImport(client, jobs, update=options["update"], dry_run=options["dry_run"])
            acts: Counter[Act] = Counter()
            for outcome in work.run(rows, timezone.now()):
                acts[outcome.act] += 1
                self._tell(outcome, dry_run=options["dry_run"])
        except (MilenaError, ImproperlyConfigured) as exc:
            raise CommandError(str(exc)) from exc
        summary = ", ".join(f"{acts[act]} {act}" for act in Act)
        self.stdout.write(f"{summary}{' (dry run: nothing was done)' if options['dry_run'] else ''}")
        if acts[Act.LEFT_OUT]:
            raise CommandError(f"{acts[Act.LEFT_OUT]} of these rows are no tasks of Milena; see above why")

    def _tell(self, outcome: Outcome, *, dry_run: bool) -> None:
        act = _WOULD[outcome.act] if dry_run else outcome.act
        self.stdout.write(f"{act}: {outcome.name}: {outcome.detail}")
        for remark in outcome.remarks:
            self.stdout.write(f"    {remark}")


def _find_rows() -> Any:
    try:
        model = apps.get_model("django_celery_beat", "PeriodicTask")
    except LookupError:
        raise CommandError("django_celery_beat is not in INSTALLED_APPS: there is nothing to import") from None
    return model.objects.select_related("crontab", "interval", "clocked", "solar").order_by("name")


def _read_mapping(options: list[str]) -> dict[str, Job]:
    """The setting MILENA_BEAT_JOBS, and the options, which come before it."""
    given: dict[str, Any] = dict(getattr(settings, "MILENA_BEAT_JOBS", {}))
    for option in options:
        task, equals, job = option.partition("=")
        if not (task and equals and job):
            raise CommandError(f"--job {option}: write the Celery task's name, =, and the job's")
        given[task] = job
    try:
        return {task: Job.read(job) for task, job in given.items()}
    except ValueError as exc:
        raise CommandError(f"MILENA_BEAT_JOBS: {exc}") from None
