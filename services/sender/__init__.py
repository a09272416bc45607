"""The sender: mail from `email.requested` over SMTP, its result to `email.sent` and `email.failed`."""
