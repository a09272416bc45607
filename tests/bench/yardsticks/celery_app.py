"""Celery as a Django shop runs it: one task a mail, Redis as broker, Django's SMTP backend as it comes.

`celery -A celery_app worker` works; `python celery_app.py FILE` enqueues the mails of a file (JSON, one a line).
In Celery's favour: no result backend, early acknowledgement (its default), no log line per task.
"""

import json
import os
import sys
from pathlib import Path

from celery import Celery
from django.conf import settings
from django.core.mail import EmailMultiAlternatives

settings.configure(EMAIL_HOST="127.0.0.1", EMAIL_PORT=int(os.environ["BENCH_SMTP_PORT"]), USE_TZ=True)
app = Celery("bench", broker=os.environ["BENCH_REDIS_URL"])
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)


@app.task(name="bench.send_email")
def send_email(subject: str, text: str, html: str, sender: str, to: list[str]) -> None:
    """One mail, on a connection of its own: what `EmailMultiAlternatives.send` does unless told otherwise."""
    mail = EmailMultiAlternatives(subject, text, sender, to)
    mail.attach_alternative(html, "text/html")
    mail.send()


def enqueue(file: str) -> None:
    """Put every mail of the file on the queue."""
    with Path(file).open() as lines:
        for line in lines:
            mail = json.loads(line)
            send_email.delay(mail["subject"], mail["text"], mail["html"], mail["from"], mail["to"])


if __name__ == "__main__":
    enqueue(sys.argv[1])
