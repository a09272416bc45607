"""PostgreSQL and Kafka go away in the middle of the load."""

from functools import partial

import pytest

from tests.chaos.conftest import Run
from tests.chaos.outages import freeze_postgres, stop_kafka, stop_postgres
from tests.chaos.servers_away import take_a_server_away
from tests.support.servers import RealServers

pytestmark = pytest.mark.timeout(600)


async def test_postgres_restarted_under_load(run: Run, own_servers: RealServers) -> None:
    scenario = partial(
        take_a_server_away,
        outage=partial(stop_postgres, own_servers),
        what="PostgreSQL is restarted five times",
        away_s=0,
        times=5,
        refuses=False,
    )
    await run("postgres_restarted", own_servers, scenario)


async def test_postgres_away_for_a_minute(run: Run, own_servers: RealServers) -> None:
    scenario = partial(
        take_a_server_away,
        outage=partial(stop_postgres, own_servers),
        what="PostgreSQL is away for 60 s",
        away_s=60,
        refuses=False,
    )
    await run("postgres_away", own_servers, scenario)


async def test_postgres_frozen_for_longer_than_a_lease(run: Run, own_servers: RealServers) -> None:
    scenario = partial(
        take_a_server_away,
        outage=partial(freeze_postgres, own_servers),
        what="PostgreSQL is frozen for 40 s",
        away_s=40,
        refuses=False,
    )
    await run("postgres_frozen", own_servers, scenario)


async def test_kafka_restarted_under_load(run: Run, own_servers: RealServers) -> None:
    scenario = partial(
        take_a_server_away,
        outage=partial(stop_kafka, own_servers),
        what="Kafka is stopped and started 10 s later",
        away_s=10,
        refuses=True,
    )
    await run("kafka_restarted", own_servers, scenario)
