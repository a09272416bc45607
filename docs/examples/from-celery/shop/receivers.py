"""What was the result backend: Milena says what became of each mail."""

from typing import Any

from django.dispatch import receiver

from milena import Event
from milena.django import mail_event
from shop.models import Order


@receiver(mail_event)
def note_outcome(event: Event, **_: Any) -> None:
    """The same event may come again; writing the same status again does no harm."""
    status = {"email.sent": "sent", "email.failed": "failed"}.get(event.type)
    if status:
        Order.objects.filter(pk=event.data["metadata"]["order"]).update(mail_status=status)
