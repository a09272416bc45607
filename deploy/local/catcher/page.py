"""The catcher's page: what was caught, and each mail from every side."""

import ipaddress
from pathlib import Path
from urllib.parse import quote

import minijinja
from aiohttp import web
from aiohttp.typedefs import Handler

from deploy.local.catcher.mailbox import Envelope, Mailbox
from deploy.local.catcher.message import ReadMail, inline_images, read_headers, read_mail

_ASSETS = Path(__file__).parent / "assets"
_PAGE_SIZE = 50
_MAILBOX = web.AppKey("mailbox", Mailbox)

# Our own pages run one script of ours and nothing of a mail.
_OWN_POLICY = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; frame-src 'self'"
_OWN_POLICY += "; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
# A mail's HTML: no script, no form, no request anywhere (remote images are trackers); links open a new tab.
SANDBOX = "allow-popups allow-popups-to-escape-sandbox"
_MAIL_POLICY = f"sandbox {SANDBOX}; default-src 'none'; img-src data:; style-src 'unsafe-inline'; font-src data:"
_MAIL_POLICY += "; frame-ancestors 'self'"


def create_page(mailbox: Mailbox) -> web.Application:
    """Build the page over one mailbox."""
    app = web.Application(middlewares=[_guard])
    app[_MAILBOX] = mailbox
    app.add_routes(
        [
            web.get("/", _show_list),
            web.get("/mails.json", _list_mails),
            web.get(r"/mails/{number:\d+}", _show_mail),
            web.get(r"/mails/{number:\d+}.json", _describe_mail),
            web.get(r"/mails/{number:\d+}/html", _show_html),
            web.get(r"/mails/{number:\d+}/source", _show_source),
            web.get(r"/mails/{number:\d+}/parts/{part:\d+}", _download_part),
            web.get("/healthz", _say_alive),
            web.static("/assets", _ASSETS),
        ]
    )
    return app


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer only to this machine's own names: a site that rebinds its name to 127.0.0.1 reads no mail."""
    if not _is_own_name(request.host):
        raise web.HTTPForbidden(text="ask for 127.0.0.1 or localhost")
    response = await handler(request)
    response.headers.setdefault("Content-Security-Policy", _OWN_POLICY)
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cache-Control"] = "no-store"
    return response


def _is_own_name(host: str) -> bool:
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")
    return True


async def _say_alive(_request: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


async def _show_list(request: web.Request) -> web.Response:
    query = request.query.get("q", "").strip()
    found = _find(request.app[_MAILBOX], query, limit=_PAGE_SIZE, before=_whole(request.query.get("before")))
    kept = len(request.app[_MAILBOX].numbers())
    return _render("list.html", mails=found, query=query, kept=kept, more=len(found) == _PAGE_SIZE)


async def _list_mails(request: web.Request) -> web.Response:
    limit = min(_whole(request.query.get("limit")) or _PAGE_SIZE, 1000)
    before = _whole(request.query.get("before"))
    return web.json_response(
        {"mails": _find(request.app[_MAILBOX], request.query.get("q", ""), limit=limit, before=before)}
    )


async def _show_mail(request: web.Request) -> web.Response:
    number, content, envelope = _read(request)
    mail = read_mail(content)
    parts = [
        {"filename": part.filename, "content_type": part.content_type, "size": len(part.content)} for part in mail.parts
    ]
    return _render(
        "mail.html",
        **_summarise(number, mail, envelope, len(content)),
        headers=mail.headers,
        text=mail.text,
        has_html=mail.html is not None,
        parts=parts,
        problem=mail.problem,
        sandbox=SANDBOX,
    )


async def _describe_mail(request: web.Request) -> web.Response:
    number, content, envelope = _read(request)
    mail = read_mail(content)
    described = _summarise(number, mail, envelope, len(content))
    return web.json_response({**described, "text": mail.text, "html": mail.html, "headers": mail.headers})


async def _show_html(request: web.Request) -> web.Response:
    _, content, _ = _read(request)
    html = '<!doctype html><meta charset="utf-8"><base target="_blank">' + inline_images(read_mail(content))
    body = html.encode("utf-8", "replace")
    headers = {"Content-Security-Policy": _MAIL_POLICY}
    return web.Response(body=body, content_type="text/html", charset="utf-8", headers=headers)


async def _show_source(request: web.Request) -> web.Response:
    _, content, _ = _read(request)
    return web.Response(text=content.decode("utf-8", "replace"), content_type="text/plain")


async def _download_part(request: web.Request) -> web.Response:
    _, content, _ = _read(request)
    parts = read_mail(content).parts
    number = int(request.match_info["part"])
    if number >= len(parts):
        raise web.HTTPNotFound(text="no such part")
    disposition = f"attachment; filename*=UTF-8''{quote(parts[number].filename, safe='', errors='replace')}"
    headers = {"Content-Disposition": disposition, "Content-Security-Policy": "sandbox; default-src 'none'"}
    return web.Response(body=parts[number].content, content_type="application/octet-stream", headers=headers)


def _read(request: web.Request) -> tuple[int, bytes, Envelope]:
    number = int(request.match_info["number"])
    found = request.app[_MAILBOX].read(number)
    if found is None:
        raise web.HTTPNotFound(text=f"mail {number} is not here (only the newest are kept)")
    return (number, *found)


def _find(mailbox: Mailbox, query: str, *, limit: int, before: int | None) -> list[dict[str, object]]:
    """Give the newest mails, those only in which ``query`` occurs (subject, addresses, envelope)."""
    wanted = query.strip().lower()
    found: list[dict[str, object]] = []
    for number in mailbox.numbers():
        if before is not None and number >= before:
            continue
        read = mailbox.read(number)
        if read is None:
            continue
        content, envelope = read
        summary = _summarise(number, read_headers(content), envelope, len(content))
        if wanted in " ".join(str(value) for value in summary.values()).lower():
            found.append(summary)
        if len(found) == limit:
            break
    return found


def _summarise(number: int, mail: ReadMail, envelope: Envelope, size: int) -> dict[str, object]:
    return {
        "number": number,
        "subject": mail.subject,
        "from": mail.sender,
        "to": mail.to,
        "envelope_from": envelope.sender,
        "envelope_to": list(envelope.recipients),
        "received_at": envelope.received_at.isoformat(timespec="seconds"),
        "size": size,
    }


def _whole(value: str | None) -> int | None:
    return int(value) if value is not None and value.isascii() and value.isdigit() else None


def _load_template(name: str) -> str:
    return (_ASSETS.parent / "templates" / name).read_text()


_templates = minijinja.Environment(loader=_load_template)


def _render(template: str, **context: object) -> web.Response:
    # minijinja escapes in every template whose name ends in .html.
    return web.Response(text=_templates.render_template(template, **context), content_type="text/html")
