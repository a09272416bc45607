"""The page a link leads to: one sentence, one button. Pure.

Nothing is loaded and nothing runs on it, and it may not be shown inside another's page.
"""

from dataclasses import dataclass
from html import escape

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
}
_STYLE = (
    ":root { color-scheme: light dark } "
    "body { max-width: 30rem; margin: 15vh auto; padding: 0 1.5rem; font: 17px/1.6 system-ui, sans-serif } "
    "button { font: inherit; padding: .6rem 1.4rem; border: 0; border-radius: .4rem; background: #1a5fb4; color: #fff; "
    "cursor: pointer } "
    "p.note { opacity: .75; font-size: .9em }"
)
_FORM = """<form method="post">
<input type="hidden" name="List-Unsubscribe" value="One-Click"><input type="hidden" name="from" value="page">
<button>Unsubscribe</button>
</form>"""
_TRIAL = "This is the link of a test mail: it shows what recipients see, and unsubscribes nobody."


@dataclass(frozen=True, slots=True)
class Sight:
    """What a page says. `sender`: of the mailing, as its mail has it in From; None: it is not known any more."""

    sender: str | None
    is_trial: bool = False


def ask(sight: Sight) -> str:
    """Before: whether it is meant."""
    return _write("Unsubscribe", f"Do you want no more mailings{_name(sight)}?", _FORM, sight)


def confirm(sight: Sight) -> str:
    """After, and whenever the link is opened again."""
    return _write("You are unsubscribed", f"You will get no more mailings{_name(sight)}.", "", sight)


def refuse(title: str, detail: str) -> str:
    """What went wrong, and what to do."""
    return _write(title, detail, "", None)


def _name(sight: Sight) -> str:
    return f" from {sight.sender}" if sight.sender else ""


def _write(title: str, sentence: str, form: str, sight: Sight | None) -> str:
    note = f'<p class="note">{_TRIAL}</p>\n' if sight and sight.is_trial else ""
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style>\n'
        f"<h1>{escape(title)}</h1>\n<p>{escape(sentence)}</p>\n{form}\n{note}</html>\n"
    )
