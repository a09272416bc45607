"""The words of the command line."""

import argparse
from datetime import datetime
from typing import TypeAlias

from milena.version import VERSION

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
_ADDRESS = "of Milena: given, or MILENA_URL and MILENA_API_KEY, or from .milena/stack.json (MILENA_DATA_DIR)"
_TIME = "2030-01-31T09:00:00Z; without zone: here"
_CODES = """exit codes: 0 done; 1 refused, or the mail ended otherwise than sent; 2 wrong usage or configuration;
3 Milena does not answer; 4 the mail is still on its way"""


def build_parser() -> argparse.ArgumentParser:
    """The parser; its result has `command`."""
    parser = argparse.ArgumentParser("milena", description="Send mail through Milena.", epilog=_CODES)
    parser.add_argument("--version", action="version", version=VERSION)
    parser.add_argument("--url", help=f"address {_ADDRESS}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_send(commands.add_parser("send", help="send a mail", epilog=_CODES))
    status = _add_id(commands, "status", "where a mail stands, and what has happened to it")
    status.add_argument("--wait", type=float, nargs="?", const=60.0, metavar="SECONDS", help="until its end")
    _add_tail(commands.add_parser("tail", help="show events as they happen, until Ctrl-C"))
    retry = _add_id(commands, "retry", "try a mail again for those who got nothing")
    retry.add_argument("--include-unknown", action="store_true", help="also those who may have got it")
    _add_id(commands, "cancel", "ask that a mail be not sent")
    scheduled = commands.add_parser("scheduled", help="mail that waits for its time, soonest first")
    scheduled.add_argument("--state", choices=("pending", "releasing", "released", "cancelled"))
    _add_json(scheduled)
    reschedule = _add_id(commands, "reschedule", "have a mail that waits leave at another time")
    reschedule.add_argument("send_at", type=_read_time, metavar="TIME", help=_TIME)
    return parser


def _add_send(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--from", dest="from_", metavar="ADDRESS", help="may be left out where the key has one sender")
    for name in ("to", "cc", "bcc", "reply-to"):
        parser.add_argument(f"--{name}", action="append", metavar="ADDRESS", help="may be given several times")
    parser.add_argument("--subject", default="")
    parser.add_argument("--text", metavar="TEXT", help="the text part; - reads it from standard input")
    parser.add_argument("--html", metavar="FILE", help="file of the HTML part; - reads it from standard input")
    parser.add_argument("--attach", action="append", metavar="FILE", help="may be given several times")
    parser.add_argument("--header", action="append", metavar="NAME:VALUE", help="may be given several times")
    parser.add_argument("--tag", action="append", dest="tags", help="may be given several times")
    parser.add_argument("--send-at", type=_read_time, metavar="TIME", help=_TIME)
    parser.add_argument("--idempotency-key", metavar="KEY", help="the same key within 24 h is the same mail")
    parser.add_argument("--wait", type=float, nargs="?", const=60.0, metavar="SECONDS", help="until its end (60)")
    _add_json(parser)


def _add_tail(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--id", dest="email_id", help="of this mail")
    parser.add_argument("--tag", help="of mails with this tag")
    parser.add_argument("--mailing", dest="mailing_id", metavar="ID", help="of this mailing")
    parser.add_argument("--batch", dest="batch_id", metavar="ID", help="of this batch")
    parser.add_argument("--after", metavar="POSITION", help="go on behind there (--json shows it)")
    _add_json(parser)


def _add_id(commands: Commands, name: str, text: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text, epilog=_CODES)
    parser.add_argument("id", metavar="ID")
    _add_json(parser)
    return parser


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def _read_time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone()
