"""The mail catcher: an SMTP server that keeps every mail and shows it, and sends nothing on."""

from deploy.local.catcher.mailbox import Mailbox
from deploy.local.catcher.server import Catcher

__all__ = ["Catcher", "Mailbox"]
