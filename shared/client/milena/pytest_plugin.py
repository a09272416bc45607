"""The fixture `milena_outbox`: what Django code sends stays in the test."""

from collections.abc import Iterator
from typing import Any

import pytest

_BACKEND = "milena.django.EmailBackend"


@pytest.fixture
def milena_outbox() -> Iterator[list[Any]]:
    """The messages sent so far, as in `django.core.mail.outbox`, whatever backend the settings name.

    Each has `milena_payload`, the JSON Milena would get. With MILENA_ON_COMMIT a message appears at the commit (of a
    `transactional_db`, or with `django_capture_on_commit_callbacks(execute=True)`).
    """
    from django.conf import settings
    from django.test import override_settings

    from milena.django.outbox import open_outbox

    has_mailers = hasattr(settings, "MAILERS")
    override = {"MAILERS": {"default": {"BACKEND": _BACKEND}}} if has_mailers else {"EMAIL_BACKEND": _BACKEND}
    with override_settings(**override), open_outbox() as messages:
        yield messages
