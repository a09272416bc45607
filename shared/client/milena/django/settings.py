"""The settings, and the clients made of them. A setting comes before the environment variable of the same name."""

import atexit
import os
from threading import Lock
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from milena.client import Client
from milena.configuration import Configuration, find_configuration
from milena.errors import NotConfigured
from milena.retrying import Patience

_clients: dict[Configuration, Client] = {}
_lock = Lock()


def read_configuration(url: str | None = None, api_key: str | None = None) -> Configuration:
    """Where Milena is. Raises ImproperlyConfigured, NotConfigured being its cause."""
    url = url or getattr(settings, "MILENA_URL", None)
    api_key = api_key or getattr(settings, "MILENA_API_KEY", None)
    try:
        return find_configuration(url, api_key)
    except NotConfigured as exc:
        raise ImproperlyConfigured(str(exc)) from exc


def read_webhook_secrets() -> list[str]:
    """Every secret a webhook may be signed with. Raises ImproperlyConfigured."""
    given = getattr(settings, "MILENA_WEBHOOK_SECRET", None) or os.environ.get("MILENA_WEBHOOK_SECRET")
    if not given:
        given = _find_local_secret()
    if not given:
        raise ImproperlyConfigured("MILENA_WEBHOOK_SECRET is needed to tell Milena's requests from anybody's")
    return [given] if isinstance(given, str) else list(given)


def read_commit_alias() -> str | None:
    """The database whose commit a mail waits for, None where it does not wait (MILENA_ON_COMMIT)."""
    given: Any = getattr(settings, "MILENA_ON_COMMIT", False)
    if isinstance(given, str):
        return given
    return "default" if given else None


def read_callback() -> dict[str, Any] | None:
    """Where Milena tells what became of each mail, unless the mail itself says (MILENA_CALLBACK_URL)."""
    url = getattr(settings, "MILENA_CALLBACK_URL", None)
    return {"url": str(url), "on": ["sent", "failed"]} if url else None


def connect(configuration: Configuration) -> Client:
    """The process's client for this address and key: its connections serve all threads and requests."""
    with _lock:
        found = _clients.get(configuration)
        if found is None:
            found = _clients[configuration] = _build(configuration)
        return found


def close_clients() -> None:
    """Close every connection of this process; new ones are opened as they are needed."""
    with _lock:
        clients = list(_clients.values())
        _clients.clear()
    for client in clients:
        client.close()


def _build(configuration: Configuration) -> Client:
    patience_s = getattr(settings, "MILENA_TIMEOUT", None)
    patience = Patience() if patience_s is None else Patience(float(patience_s))
    return Client(configuration.url, configuration.api_key, patience=patience)


def _find_local_secret() -> str | None:
    try:
        return read_configuration().webhook_secret
    except ImproperlyConfigured:
        return None


def _on_setting(*, setting: str, **_: Any) -> None:
    if setting.startswith("MILENA_"):
        close_clients()


def _start_anew() -> None:
    """In a forked process: two must not write to one connection, and the lock may be held by a thread that is gone."""
    global _lock  # noqa: PLW0603
    _lock = Lock()
    _clients.clear()


setting_changed.connect(_on_setting)
atexit.register(close_clients)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)
