"""`path("milena/", milena_webhook)`: takes what Milena posts, and sends the signal `mail_event`."""

import logging
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from milena.django.settings import read_webhook_secrets
from milena.django.signals import mail_event
from milena.errors import WebhookRejected
from milena.webhooks import verify_webhook

log = logging.getLogger("milena.django")


@csrf_exempt
@require_POST
def milena_webhook(request: HttpRequest) -> HttpResponse:
    """204 when every receiver is done; 400 for what Milena has not signed; 500 when a receiver raised."""
    try:
        event = verify_webhook(request.body, request.headers, read_webhook_secrets())
    except WebhookRejected as exc:
        log.warning("a webhook is refused", extra={"why": str(exc)})
        return HttpResponse(f"{exc}\n", status=400, content_type="text/plain")
    answers: list[tuple[Any, Any]] = mail_event.send_robust(sender=milena_webhook, event=event)
    failed = [answer for _, answer in answers if isinstance(answer, Exception)]
    for error in failed:
        log.error("a receiver of mail_event failed", exc_info=error, extra={"event_id": event.id})
    return HttpResponse(status=500 if failed else 204)
