"""The secret that signs an account's callbacks and webhooks. Pure."""

import base64
import hashlib
import hmac


def derive_webhook_secret(master_secret: str, account: str) -> str:
    """The account's secret in the form of Standard Webhooks, `whsec_<base64 of 32 bytes>`.

    Derived, not stored: whoever has the master secret can sign for every account, and nobody else for any.
    """
    key = hmac.new(master_secret.encode(), f"milena webhook secret 1\n{account}".encode(), hashlib.sha256).digest()
    return f"whsec_{base64.b64encode(key).decode()}"
