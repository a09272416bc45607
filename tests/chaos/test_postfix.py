"""5,000 mails through a real Postfix; `make test` sends 200."""

import pytest

from tests.integration.test_sender_postfix import ACCESS, PASSWORD, USERNAME, send_through_postfix
from tests.support.postfix import NoPostfix, run_postfix
from tests.support.services import ServiceRunner
from tests.support.stack import Stack


async def test_five_thousand_mails_without_a_complaint(
    services: ServiceRunner, stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        with run_postfix(USERNAME, PASSWORD, ACCESS) as postfix:
            mails_per_s = await send_through_postfix(services, stack, postfix, 5_000)
    except NoPostfix as exc:
        pytest.skip(f"no real Postfix here: {exc}")
    with capsys.disabled():
        print(f"\nreal Postfix: 5,000 mails, {mails_per_s:,.0f}/s, no complaint in its log")
