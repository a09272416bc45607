"""`run.py REPORT`: send the corpus through Milena's backend, write down what was meant, then run the tests here.

Runs with nothing but Django, httpx, pytest and the client. MILENA_URL and MILENA_API_KEY name a real gateway.
"""

import base64
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import django
import pytest
from django.conf import settings

HERE = Path(__file__).parent


def configure() -> None:
    settings.configure(
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        INSTALLED_APPS=["milena.django"],
        ROOT_URLCONF="urls",
        ALLOWED_HOSTS=["testserver"],
        EMAIL_BACKEND="milena.django.EmailBackend",
        DEFAULT_FROM_EMAIL="no-reply@example.com",
        SERVER_EMAIL="server@example.com",
        SECRET_KEY="for tests only",
        MIDDLEWARE=["django.middleware.csrf.CsrfViewMiddleware"],
        MILENA_WEBHOOK_SECRET=["whsec_" + base64.b64encode(b"1" * 32).decode()],
    )
    django.setup()


def send_corpus() -> list[dict[str, Any]]:
    from corpus import CASES  # type: ignore[import-not-found]  # a script has its own folder first

    report = []
    for name, build in CASES.items():
        message = build()
        written = message.message().as_bytes()
        assert message.send() == 1, name
        report.append(
            {
                "case": name,
                "id": message.milena_handle.id,
                "message": base64.b64encode(written).decode(),
                "from": message.from_email,
                "recipients": [str(each) for each in message.recipients()],
            }
        )
    return report


if __name__ == "__main__":
    configure()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Django 6.1 would rather have MAILERS
        Path(sys.argv[1]).write_text(json.dumps({"django": django.get_version(), "sent": send_corpus()}))
    options = ["--noconftest", "-c", str(HERE / "pytest.ini"), "-p", "milena.pytest_plugin", "-p", "no:cacheprovider"]
    raise SystemExit(pytest.main([*options, "-q", "--tb=short", str(HERE)]))
