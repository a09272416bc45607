"""Certificates of our own, from PEM files that settings name."""

import ssl


def load_certificate(context: ssl.SSLContext, cert: str, key: str | None, setting: str) -> None:
    """Let `context` show it. `setting`: what the names of the two settings begin with. Raises ValueError."""
    try:
        context.load_cert_chain(cert, key, password=_refuse_passphrase)
    except (OSError, ValueError) as exc:
        raise ValueError(f"{setting}TLS_CERT, _TLS_KEY: no PEM files of a certificate and its key ({exc})") from None


def _refuse_passphrase() -> str:
    """Without it OpenSSL would ask whoever sits at the terminal."""
    raise ValueError("the key must not be locked by a passphrase")
