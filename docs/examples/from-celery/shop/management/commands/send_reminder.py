"""`manage.py send_reminder ADDRESS`: what cron, or Milena's scheduler, calls where celery-beat called a task."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from milena.django import send_mail


class Command(BaseCommand):
    """Sends one mail, and waits for its end."""

    help = "Send a reminder."

    def add_arguments(self, parser: CommandParser) -> None:
        """Called by Django."""
        parser.add_argument("address")

    def handle(self, *args: Any, **options: Any) -> None:
        """Called by Django."""
        handle = send_mail.delay(
            "A reminder", "Something waits for you.\n", None, [options["address"]], metadata={"order": 0}
        )
        self.stdout.write(f"{handle.id} {handle.wait(timeout=30).status}")
