"""What each command does; its result is the exit code."""

import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any

from milena.cli.arguments import build_parser
from milena.cli.showing import Screen
from milena.client import Client
from milena.errors import ApiError, ConnectionFailed, MilenaError, NotConfigured, StillOnItsWay, Unavailable
from milena.handles import Handle
from milena.status import EmailStatus


class Code(IntEnum):
    """How a command ended."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    AWAY = 3
    PENDING = 4


def main(arguments: Sequence[str] | None = None, connect: Callable[[str | None], Client] = Client) -> int:
    """Run one command. Errors are one line on standard error."""
    wanted = build_parser().parse_args(arguments)
    try:
        with connect(wanted.url) as client:
            return _COMMANDS[wanted.command](client, wanted, Screen(as_json=wanted.json))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `milena tail | head`
        sys.stderr.close()
        return Code.DONE
    except (OSError, ValueError, MilenaError) as exc:
        print(f"milena: {exc}", file=sys.stderr)
        return _judge(exc)


def _judge(exc: Exception) -> Code:
    match exc:
        case StillOnItsWay():
            return Code.PENDING
        case ConnectionFailed() | Unavailable():
            return Code.AWAY
        case ApiError():
            return Code.REFUSED
        case NotConfigured() | OSError() | ValueError():
            return Code.USAGE
    return Code.REFUSED


def _send(client: Client, wanted: Namespace, screen: Screen) -> int:
    names = ("to", "cc", "bcc", "reply_to", "subject", "tags", "send_at")
    mail: dict[str, Any] = {name: getattr(wanted, name) for name in names}
    mail |= {
        "from_": wanted.from_ or client.from_address,
        "text": _read_text(wanted),
        "html": _read_html(wanted),
        "attachments": wanted.attach or (),
        "headers": _read_headers(wanted.header or ()),
    }
    handle = client.send(idempotency_key=wanted.idempotency_key, **mail)
    if wanted.wait is None:
        screen.show_accepted(handle.id)
        return Code.DONE
    if not wanted.json:
        screen.show_accepted(handle.id)
    return _follow(handle, wanted.wait, screen)


def _show_status(client: Client, wanted: Namespace, screen: Screen) -> int:
    handle = client.email(wanted.id)
    if wanted.wait is not None:
        return _follow(handle, wanted.wait, screen)
    screen.show_status(handle.status(), handle.timeline())
    return Code.DONE


def _tail(client: Client, wanted: Namespace, screen: Screen) -> int:
    filters = {name: getattr(wanted, name) for name in ("email_id", "tag", "mailing_id", "batch_id")}
    given = {name: value for name, value in filters.items() if value}
    for event in client.events(last_event_id=wanted.after, **given):
        screen.show_event(event)
    return Code.DONE


def _retry(client: Client, wanted: Namespace, screen: Screen) -> int:
    screen.show_accepted(client.retry(wanted.id, include_unknown=wanted.include_unknown).id, retry_of=wanted.id)
    return Code.DONE


def _cancel(client: Client, wanted: Namespace, screen: Screen) -> int:
    client.cancel(wanted.id)
    screen.show_cancellation(wanted.id)
    return Code.DONE


def _list_scheduled(client: Client, wanted: Namespace, screen: Screen) -> int:
    for each in client.scheduled(**({"state": wanted.state} if wanted.state else {})):
        screen.show_scheduled(each)
    return Code.DONE


def _reschedule(client: Client, wanted: Namespace, screen: Screen) -> int:
    screen.show_scheduled(client.reschedule(wanted.id, wanted.send_at))
    return Code.DONE


_COMMANDS: Mapping[str, Callable[[Client, Namespace, Screen], int]] = {
    "send": _send,
    "status": _show_status,
    "tail": _tail,
    "retry": _retry,
    "cancel": _cancel,
    "scheduled": _list_scheduled,
    "reschedule": _reschedule,
}


def _follow(handle: Handle, timeout_s: float, screen: Screen) -> int:
    status: EmailStatus = handle.wait(timeout_s)
    screen.show_status(status, handle.timeline())
    return Code.DONE if status.status == "sent" else Code.REFUSED


def _read_text(wanted: Namespace) -> str | None:
    if wanted.text == "-" and wanted.html == "-":
        raise ValueError("only one of --text and --html can come from standard input")
    if wanted.text is None and wanted.html is None:
        raise ValueError("give --text or --html (- reads standard input)")
    return sys.stdin.read() if wanted.text == "-" else wanted.text


def _read_html(wanted: Namespace) -> str | None:
    if wanted.html is None:
        return None
    return sys.stdin.read() if wanted.html == "-" else Path(wanted.html).read_text(encoding="utf-8")


def _read_headers(given: Sequence[str]) -> dict[str, str] | None:
    headers = {}
    for each in given:
        name, colon, value = each.partition(":")
        if not colon:
            raise ValueError("write --header as NAME:VALUE")
        headers[name.strip()] = value.strip()
    return headers or None
