"""Fixtures of more than one file here: the scheduler's API and its mailings, on a database of the file's own."""

from collections.abc import AsyncIterator

import pytest

from tests.support.mailing_machine import Machine, open_machine
from tests.support.mailings import Account, World, open_world


@pytest.fixture
async def world(module_database_url: str) -> AsyncIterator[World]:
    """The scheduler's API in this process."""
    async with open_world(module_database_url) as world:
        yield world


@pytest.fixture
async def shop(world: World) -> Account:
    """An account of its own there."""
    return await world.open()


@pytest.fixture
async def machine(world: World) -> AsyncIterator[Machine]:
    """What works for the mailings of one account of it."""
    async with open_machine(world) as machine:
        yield machine
