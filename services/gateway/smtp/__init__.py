"""Mail by SMTP, for applications that speak nothing else: `python -m services.gateway smtp` (docs/smtp.md).

`server` listens · `session` is one connection · `submission` answers MAIL, RCPT and DATA · `message`, `fields` and
`parts` make an event of what was sent (pure).
"""

from services.gateway.smtp.server import create_ingest

__all__ = ["create_ingest"]
