"""What to change where a step towards a relay fails. Pure; no secret comes in here.

`name(*fields)` says how settings of that relay are called: `MILENA_SMTP_HOST and MILENA_SMTP_PORT`.
"""

import ssl
from collections.abc import Callable
from enum import StrEnum

import aiosmtplib

Name = Callable[..., str]


class Step(StrEnum):
    """What is tried, in this order."""

    DNS = "DNS"
    CONNECT = "connect"
    GREETING = "greeting"
    EHLO = "EHLO"
    TLS = "TLS"
    AUTH = "AUTH"
    MAIL = "MAIL"
    RCPT = "RCPT"
    CONTENT = "content"


_WANTS_LOGIN = frozenset({530, 550, 551, 553, 554})


def find_certificate_error(exc: BaseException | None) -> ssl.SSLCertVerificationError | None:
    """The refusal of a certificate among an error's causes."""
    while exc is not None and not isinstance(exc, ssl.SSLCertVerificationError):
        exc = exc.__cause__ or exc.__context__
    return exc


def is_about_tls(exc: BaseException | None) -> bool:
    """Whether TLS is among an error's causes."""
    while exc is not None and not isinstance(exc, ssl.SSLError):
        exc = exc.__cause__ or exc.__context__
    return exc is not None


def describe(exc: BaseException) -> str:
    """The relay's own words where it said any, otherwise the error's."""
    refused = find_certificate_error(exc)
    if refused:
        return f"certificate refused: {refused.verify_message}"
    if isinstance(exc, aiosmtplib.SMTPResponseException):
        return f"{exc.code} {exc.message}"
    if isinstance(exc, TimeoutError) and not str(exc):
        return "no answer in time"
    return str(exc) or type(exc).__name__


def advise(step: Step, exc: BaseException, name: Name, *, tls: str, username: str | None) -> str:
    """The setting to look at after `exc` at `step`; `tls` and `username` are those in use."""
    code = exc.code if isinstance(exc, aiosmtplib.SMTPResponseException) else 0
    match step:
        case Step.DNS:
            return f"{name('host')}: no such name, or this machine's resolver does not know it"
        case Step.CONNECT:
            return f"{name('host', 'port')}: nobody listens there, or a firewall keeps this machine from it"
        case Step.GREETING if not code:
            return f"{name('port', 'tls')}: what listens there is no SMTP, or speaks TLS from the first byte"
        case Step.GREETING:
            return f"{name('host')}: this relay does not let this machine in; ask who runs it"
        case Step.EHLO:
            return f"{name('local_hostname')}: the relay may want this machine's full host name"
        case Step.TLS:
            return _advise_on_tls(exc, name, tls)
        case Step.AUTH:
            return _advise_on_auth(code, name, tls)
        case Step.MAIL if code in _WANTS_LOGIN and username is None:
            return f"{name('username', 'password')}: the relay may want to know who sends; or --from: another"
        case Step.MAIL:
            return "--from: the relay does not let you send from this address"
        case Step.RCPT if code in _WANTS_LOGIN and username is None:
            return f"{name('username', 'password')}: the relay may pass on mail only for those it knows; or --to"
        case Step.RCPT:
            return "--to: the relay does not take mail for this recipient"
        case Step.CONTENT:
            return f"--from, or ask who runs the relay; {name('final_dot_timeout')} where it was only slow"


def _advise_on_tls(exc: BaseException, name: Name, tls: str) -> str:
    refused = find_certificate_error(exc)
    if refused and refused.verify_code in (62, 64):  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
        return f"{name('host')}: write the name that is in the certificate"
    if refused:
        return f"{name('ca_file')}: a PEM file with the authority to trust"
    if tls == "starttls":
        return f"{name('tls')}: the relay offers no STARTTLS here; `tls` with port 465, or `none` within one machine"
    return f"{name('tls', 'port')}: the relay does not speak TLS from the first byte here; try `starttls`"


def _advise_on_auth(code: int, name: Name, tls: str) -> str:
    if code:
        return f"{name('username', 'password')}: the relay does not accept them"
    if tls == "none":
        return f"{name('tls')}: the relay offers no AUTH without encryption; or leave {name('username')} out"
    return f"{name('username')}: the relay offers no AUTH that could be used; leave it out where none is needed"
