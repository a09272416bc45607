"""The development key: minted once, and again where the kept one will not do."""

from pathlib import Path

from deploy.local.credentials import read_or_mint_api_key
from deploy.local.settings import read_environment
from shared.access import AccessStore, digest_key
from shared.database import Database
from tests.support.stack import MASTER_SECRET


async def test_key_is_kept_until_it_may_not_send_from_the_address(database_url: str, tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    environment = {
        **read_environment(),
        "MILENA_DATABASE_URL": database_url,
        "MILENA_MASTER_SECRET": MASTER_SECRET,
    }
    first = await read_or_mint_api_key(path, environment, "no-reply@example.com")
    assert await read_or_mint_api_key(path, environment, "hello@example.com") == first
    second = await read_or_mint_api_key(path, environment, "hello@shop.test")
    assert second.api_key != first.api_key
    assert second.webhook_secret == first.webhook_secret
    assert await read_or_mint_api_key(path, environment, "hello@shop.test") == second

    database = Database(database_url)
    key = await AccessStore(database).find_key(digest_key(second.api_key))
    await database.close()
    assert key is not None
    assert key.may_send_from("hello@shop.test")
