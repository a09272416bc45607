"""Where Milena is, and the key to call it with: given, or from the environment, or from a local stack's stack.json."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from milena.errors import NotConfigured

URL_VARIABLE, KEY_VARIABLE, DATA_VARIABLE = "MILENA_URL", "MILENA_API_KEY", "MILENA_DATA_DIR"
_HINT = "give url and api_key, set MILENA_URL and MILENA_API_KEY, or run where `make up` has made .milena/stack.json"


@dataclass(frozen=True)
class Configuration:
    """Where to call, and as whom. A local stack also tells what its key may send from, and what signs its webhooks."""

    url: str
    api_key: str = field(repr=False)
    from_address: str | None = None
    webhook_secret: str | None = field(default=None, repr=False)


def find_configuration(
    url: str | None = None, api_key: str | None = None, environment: Mapping[str, str] | None = None
) -> Configuration:
    """Each of the two from its argument, else its variable, else `$MILENA_DATA_DIR/stack.json`. Raises NotConfigured.

    A stack's key is only ever taken together with its address: it is nobody else's.
    """
    environment = os.environ if environment is None else environment
    url = url or environment.get(URL_VARIABLE) or None
    api_key = api_key or environment.get(KEY_VARIABLE) or None
    stack = _read_stack(Path(environment.get(DATA_VARIABLE) or ".milena") / "stack.json")
    stack_url = stack.get("base_url")
    if url is None or url.rstrip("/") == stack_url:
        url = url or stack_url
        api_key = api_key or stack.get("api_key")
    else:
        stack = {}
    if not url or not api_key:
        raise NotConfigured(f"{'no address' if not url else 'no API key'} of Milena is known: {_HINT}")
    if not url.startswith(("http://", "https://")):
        raise NotConfigured(f"{URL_VARIABLE} must begin with http:// or https://")
    if not api_key.isascii() or not api_key.isprintable():
        raise NotConfigured("the API key has characters that no key has")
    return Configuration(url.rstrip("/"), api_key, stack.get("from_address"), stack.get("webhook_secret"))


def _read_stack(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
