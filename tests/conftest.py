"""Fixtures for every test. Nothing is started until a test asks for it, so unit tests start nothing."""

import gc
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from deploy.local.catcher import Catcher, Mailbox
from tests.support.servers import RealServers
from tests.support.services import ServiceRunner
from tests.support.stack import Stack

_LONGEST = (  # as measured
    *("test_make_up", "test_promises", "test_api_contract", "test_gateway_proving", "test_kafka_access"),
    *("test_gateway_silent_broker", "test_scheduler_worker", "test_sender_faults", "test_sender_path"),
    *("test_scheduler_bulk", "test_mailing_path", "test_client_beat", "test_junk", "test_sender_bulk"),
    *("test_sender_routing", "test_sender_safety", "test_sender_pausing", "test_cancelling", "test_cleaning"),
    *("test_callback_worker", "test_sender_answers", "test_sender_check", "test_sender_ends"),
    *("test_gateway_read_model", "test_scheduler_jobs", "test_sender_api", "test_gateway_sending"),
    *("test_gateway_live", "test_sender_suspects", "test_gateway_bad_input", "test_sender_test_mail"),
    *("test_sender_bound", "test_gateway_keys", "test_local_credentials", "test_gateway_commands"),
)
# As the services do (shared/logs.py); the pretty traceback that is structlog's default takes seconds of CPU to draw.
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False),
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)
_shared = pytest.StashKey[RealServers]()
_outcomes = pytest.StashKey[dict[str, pytest.TestReport]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep each phase's report, so that a fixture can tell whether its test failed."""
    report = yield
    item.stash.setdefault(_outcomes, {})[str(report.when)] = report
    return report


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """All that is loaded here stays to the end: looking through it for garbage, again and again, takes seconds."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that last longest come first, so that no process is left alone with one of them at the end."""
    items.sort(key=lambda item: _LONGEST.index(item.path.stem) if item.path.stem in _LONGEST else len(_LONGEST))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tests run in several processes: this one starts the servers, the others join them."""
    servers = node.config.stash.get(_shared, None)
    if servers is None:
        servers = node.config.stash[_shared] = RealServers(hasty=True)
    node.workerinput["servers"] = servers.share()


def pytest_unconfigure(config: pytest.Config) -> None:
    """The processes that joined are gone."""
    servers = config.stash.get(_shared, None)
    if servers is not None:
        servers.stop()


@pytest.fixture(scope="session")
def real_servers(request: pytest.FixtureRequest) -> Iterator[RealServers]:
    """The one Kafka and the one PostgreSQL of this run; each starts at its first use."""
    shared = getattr(request.config, "workerinput", {}).get("servers")
    servers = RealServers.join(shared) if shared else RealServers(hasty=True)
    try:
        yield servers
    finally:
        servers.stop()


@pytest.fixture
def own_servers() -> Iterator[RealServers]:
    """A Kafka and a PostgreSQL that nobody else uses, so that they may be stopped."""
    servers = RealServers()
    try:
        yield servers
    finally:
        servers.stop()


@pytest.fixture(scope="session")
def bootstrap_servers(real_servers: RealServers) -> str:
    """The address of a real Kafka."""
    return real_servers.bootstrap_servers()


@pytest.fixture
def database_url(real_servers: RealServers) -> Iterator[str]:
    """A database of this test's own, with every service's schema migrated, empty."""
    name = real_servers.create_database()
    yield real_servers.postgres().database_url(name)
    real_servers.drop_database(name)


@pytest.fixture(scope="module")
def module_database_url(real_servers: RealServers) -> Iterator[str]:
    """A migrated database that the tests of one file share, one after the other."""
    name = real_servers.create_database()
    yield real_servers.postgres().database_url(name)
    real_servers.drop_database(name)


@pytest.fixture
def empty_database_url(real_servers: RealServers) -> Iterator[str]:
    """A database of this test's own with nothing in it."""
    name = real_servers.create_database(migrated=False)
    yield real_servers.postgres().database_url(name)
    real_servers.drop_database(name)


@pytest.fixture
def topic_prefix(real_servers: RealServers) -> Iterator[str]:
    """A topic prefix of this test's own; the four topics exist under it."""
    prefix = real_servers.create_topics()
    yield prefix
    real_servers.drop_topics(prefix)


@pytest.fixture
def stack(bootstrap_servers: str, topic_prefix: str, database_url: str) -> Stack:
    """Topics and a database of this test's own."""
    return Stack(bootstrap_servers, topic_prefix, database_url)


@pytest.fixture
async def mail_catcher(tmp_path: Path) -> AsyncIterator[Catcher]:
    """An SMTP server that keeps every mail: ``.smtp_port``, ``.mailbox.numbers()``, ``.mailbox.read(n)``."""
    catcher = Catcher(Mailbox(tmp_path / "mail"))
    await catcher.start()
    yield catcher
    await catcher.stop()


@pytest.fixture
def services(stack: Stack, request: pytest.FixtureRequest) -> Iterator[ServiceRunner]:
    """Start services as processes: ``services.start("services.sender", "worker", env={...})``."""
    runner = ServiceRunner(stack.env(), preloaded=True)
    yield runner
    runner.stop_all()
    called = request.node.stash.get(_outcomes, {}).get("call")
    if called is not None and called.failed:
        print(runner.describe_logs())
