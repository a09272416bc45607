"""Accounts, API keys and what they may do: the one schema (`access`) that all services read.

`keys` what a key is · `store` the SQL · `lookup` cached look-ups · `webhooks` the account's webhook secret.
"""

from shared.access.keys import ApiKey, ApiScope, digest_key, mint_key
from shared.access.lookup import AccessUnavailable, KeyLookup
from shared.access.store import AccessStore, UnknownAccount
from shared.access.webhooks import derive_webhook_secret

__all__ = [
    "AccessStore",
    "AccessUnavailable",
    "ApiKey",
    "ApiScope",
    "KeyLookup",
    "UnknownAccount",
    "derive_webhook_secret",
    "digest_key",
    "mint_key",
]
