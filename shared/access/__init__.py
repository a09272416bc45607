"""Accounts, API keys and what they may do: the one schema (`access`) that all services read.

`keys` what a key is · `grants` what one may give to another · `store` the SQL, `rows` what its statements share ·
`lookup` cached look-ups · `uses` when keys were last used · `webhooks` the account's webhook secret.
"""

from shared.access.keys import ApiKey, ApiScope, KeyState, digest_key, mint_key
from shared.access.lookup import AccessUnavailable, KeyLookup
from shared.access.store import AccessStore, UnknownAccount
from shared.access.uses import LastUses
from shared.access.webhooks import derive_webhook_secret

__all__ = [
    "AccessStore",
    "AccessUnavailable",
    "ApiKey",
    "ApiScope",
    "KeyLookup",
    "KeyState",
    "LastUses",
    "UnknownAccount",
    "derive_webhook_secret",
    "digest_key",
    "mint_key",
]
