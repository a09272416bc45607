"""`manage.py check` says what is missing or cannot be."""

from typing import Any

from django.conf import settings
from django.core.checks import Error, Warning  # noqa: A004
from django.core.exceptions import ImproperlyConfigured

from milena.django.settings import read_commit_alias, read_configuration, read_webhook_secrets

_NAMES = frozenset({"URL", "API_KEY", "WEBHOOK_SECRET", "CALLBACK_URL", "ON_COMMIT", "TIMEOUT", "BEAT_JOBS"})


def check_settings(**_: Any) -> list[Error | Warning]:
    """Every complaint about our settings."""
    found: list[Error | Warning] = []
    try:
        read_configuration()
    except ImproperlyConfigured as exc:
        found.append(Error(str(exc), hint="set MILENA_URL and MILENA_API_KEY", id="milena.E001"))
    try:
        if any(not each.startswith("whsec_") for each in read_webhook_secrets()):
            found.append(Error("MILENA_WEBHOOK_SECRET must begin with whsec_", id="milena.E002"))
    except ImproperlyConfigured:
        hint = "set MILENA_WEBHOOK_SECRET if you use milena_webhook, else ignore this"
        found.append(Warning("no webhook can be verified", hint=hint, id="milena.W003"))
    alias = read_commit_alias()
    if alias and alias not in settings.DATABASES:
        found.append(Error(f"MILENA_ON_COMMIT names {alias!r}, which is not in DATABASES", id="milena.E004"))
    unknown = [each for each in dir(settings) if each.startswith("MILENA_") and each[7:] not in _NAMES]
    found += [Warning(f"{each} is no setting of milena.django", id="milena.W005") for each in unknown]
    return found
