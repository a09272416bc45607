"""The scenarios of `make chaos` in short: fewer mails, leases of seconds, judged at the relay and in the database."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from tests.chaos.cells import Cell, Fault, Way
from tests.chaos.killed import end_senders
from tests.chaos.matrix import run_matrix
from tests.chaos.relay_pause import pause_the_relay
from tests.chaos.rig import Rig, open_rig
from tests.chaos.servers_away import take_a_server_away
from tests.chaos.slow_relay import wait_out_a_slow_relay
from tests.chaos.transactions import abort_and_commit
from tests.chaos.verdict import Verdict
from tests.support.outage import DatabaseProxy
from tests.support.servers import RealServers

LEASE_S = 3


@pytest.fixture
async def rig(real_servers: RealServers) -> AsyncIterator[Rig]:
    async with open_rig(real_servers, env={"MILENA_TEST_LEASE": str(LEASE_S)}, preloaded=True) as opened:
        yield opened


def hold_to(verdict: Verdict, rig: Rig) -> None:
    assert not verdict.faults, f"{verdict.describe()}\n{rig.services.describe_logs()}"


async def test_a_killed_sender_loses_nothing_and_doubles_only_what_it_calls_unknown(rig: Rig) -> None:
    hold_to(await end_senders(rig, gently=False, mails=300, ends=1, patience_s=40, reconciled=False), rig)


async def test_an_answer_after_parking_and_lease_with_three_sigterms_makes_no_double(rig: Rig) -> None:
    hold_to(await wait_out_a_slow_relay(rig, delay_s=LEASE_S * 1.5, mails=10, patience_s=60, reconciled=False), rig)


async def test_a_sender_frozen_for_longer_than_its_lease_in_the_middle_of_a_bulk_event_doubles_only_what_is_unknown(
    rig: Rig,
) -> None:
    cells = [Cell(Fault.FREEZE, "settle.before", Way.BULK)]
    hold_to(await run_matrix(rig, fault=Fault.FREEZE, cells=cells, reconciled=False), rig)


async def test_a_pause_of_the_relay_restarts_nobody(rig: Rig) -> None:
    pause = partial(pause_the_relay, away_s=5, mails=45, size=900_000, stalled_after_s=3)
    hold_to(await pause(rig, patience_s=30, reconciled=False), rig)


async def test_an_aborted_transaction_sends_nothing_and_hurts_nobody(rig: Rig) -> None:
    hold_to(await abort_and_commit(rig, mails=5, idle_s=4, stalled_after_s=2, reconciled=False), rig)


@asynccontextmanager
async def behind_a_proxy(servers: RealServers) -> AsyncIterator[tuple[Rig, DatabaseProxy]]:
    """A rig whose services reach PostgreSQL through a proxy, while the judge does not need it."""
    async with (
        open_rig(servers, env={"MILENA_TEST_LEASE": str(LEASE_S)}, preloaded=True) as rig,
        DatabaseProxy(rig.stack.database_url) as proxy,
    ):
        rig.services.env["MILENA_DATABASE_URL"] = proxy.url
        yield rig, proxy
        await rig.close()


async def test_postgresql_cut_off_and_frozen_for_longer_than_a_lease_makes_nothing_unknown(
    real_servers: RealServers,
) -> None:
    async with behind_a_proxy(real_servers) as (rig, proxy):

        async def cut_then_freeze(away_s: float) -> None:
            await proxy.cut()
            await asyncio.sleep(away_s)
            await proxy.mend()
            await rig.wait_claims_open()
            proxy.freeze()
            await asyncio.sleep(away_s)
            proxy.thaw()

        scenario = partial(take_a_server_away, outage=cut_then_freeze, what="PostgreSQL away", away_s=LEASE_S * 1.5)
        hold_to(await scenario(rig, refuses=False, mails=400, margin_s=2, patience_s=40, reconciled=False), rig)
