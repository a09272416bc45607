"""django-post_office, tuned: `python post_office_app.py migrate | enqueue FILE | send_queued_mail -p 2`.

Its defaults are a batch of 100 and a log row for every mail; here the batch is 2,500 and nothing is logged.
"""

import json
import os
import sys
from itertools import islice
from pathlib import Path

import django
from django.conf import settings
from django.core.management import execute_from_command_line

settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "post_office"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": os.environ["BENCH_DATABASE"],
            "USER": "postgres",
            "HOST": os.environ["BENCH_DATABASE_HOST"],
        }
    },
    EMAIL_HOST="127.0.0.1",
    EMAIL_PORT=int(os.environ["BENCH_SMTP_PORT"]),
    EMAIL_BACKEND="post_office.EmailBackend",
    POST_OFFICE={
        "BATCH_SIZE": 2500,
        "LOG_LEVEL": 0,
        "BACKENDS": {"default": "django.core.mail.backends.smtp.EmailBackend"},
    },
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    USE_TZ=True,
)


def enqueue(file: str) -> None:
    """Put every mail of the file on the queue."""
    from post_office import mail

    with Path(file).open() as lines:
        while some := [json.loads(line) for line in islice(lines, 1000)]:
            mail.send_many(
                [
                    {
                        "sender": each["from"],
                        "recipients": each["to"],
                        "subject": each["subject"],
                        "message": each["text"],
                        "html_message": each["html"],
                    }
                    for each in some
                ]
            )


if __name__ == "__main__":
    django.setup()
    if sys.argv[1] == "enqueue":
        enqueue(sys.argv[2])
    else:
        execute_from_command_line(sys.argv)
