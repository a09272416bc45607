"""Bring a stack up, keep it up, and take it down."""

import asyncio
import signal
import time
from collections.abc import Callable, Coroutine

from deploy.local.credentials import read_or_mint_api_key, read_or_mint_master_secret
from deploy.local.lock import hold
from deploy.local.output import Output
from deploy.local.paths import DataPaths
from deploy.local.ports import LOOPBACK, Ports, require_free
from deploy.local.processes import (
    build_catcher,
    build_environment,
    build_services,
    list_ports,
    list_recorded,
)
from deploy.local.readiness import wait_until_ready
from deploy.local.record import ProcessRecord, StackRecord, write_api_environment, write_record
from deploy.local.servers import Servers
from deploy.local.settings import FIRST_RECIPIENT, StackSettings, read_environment
from deploy.local.supervisor import Command, Supervisor
from deploy.local.welcome import send_and_follow
from shared.access.keys import hint_of

_READY_TIMEOUT_S = 90
_ONE_SIGNAL_S = 1.0


class LocalStack:
    """One stack on one data directory."""

    def __init__(self, settings: StackSettings, output: Output) -> None:
        self._settings = settings
        self._output = output
        self._paths = DataPaths(settings.data_dir)
        self._ports = Ports.from_offset(settings.port_offset)
        self._servers = Servers(settings, self._paths, self._ports, output)
        self._supervisor = Supervisor(output, self._record_processes)
        self._services: list[Command] = []
        self._record: StackRecord | None = None

    async def start(self) -> StackRecord:
        """Start everything and wait until all of it is ready. Raises StackError."""
        master_secret = read_or_mint_master_secret(self._paths.credentials)
        catches = self._settings.catches_mail
        if catches:
            self._supervisor.start(build_catcher(self._paths, self._ports, read_environment()))
        await self._servers.start()
        environment = build_environment(
            read_environment(),
            self._addresses(),
            self._ports,
            master_secret,
            self._settings.scheme,
            self._settings.from_address,
        )
        key = await read_or_mint_api_key(self._paths.credentials, environment, self._settings.from_address)
        self._record = StackRecord(
            base_url=environment["MILENA_BASE_URL"],
            api_key=key.api_key,
            webhook_secret=key.webhook_secret,
            kafka=self._servers.bootstrap_servers,
            database_url=self._servers.database_url,
            from_address=self._settings.from_address,
            smtp_ingest_port=self._ports.smtp_ingest,
            smtp_host=environment.get("MILENA_SMTP_HOST"),
            smtp_port=None if self._settings.relays else int(environment.get("MILENA_SMTP_PORT", "2525")),
            mail_url=environment.get("MILENA_MAIL_URL"),
            mail_dir=str(self._paths.mail) if catches else None,
        )
        write_api_environment(self._paths.api_environment, self._record)
        self._services = build_services(self._settings, self._ports, environment)
        for command in self._services:
            self._supervisor.start(command)
        await wait_until_ready(
            self._services,
            self._record.base_url,
            timeout_s=_READY_TIMEOUT_S,
            find_failure=self._supervisor.find_failure,
        )
        return self._record

    async def stop(self) -> None:
        """Stop in order: the services, then what they lean on."""
        await self._supervisor.stop([command.name for command in self._services])
        await self._supervisor.stop(grace_s=5)
        await self._servers.stop()
        self._record_processes()

    def hurry(self) -> None:
        """Wait for nobody any more: kill the services now. What they had not finished is delivered again."""
        self._supervisor.kill([command.name for command in self._services])

    def _addresses(self) -> dict[str, str]:
        addresses = {
            "MILENA_KAFKA_BOOTSTRAP_SERVERS": self._servers.bootstrap_servers,
            "MILENA_DATABASE_URL": self._servers.database_url,
        }
        if self._settings.catches_mail:
            addresses |= {
                "MILENA_SMTP_HOST": LOOPBACK,
                "MILENA_SMTP_PORT": str(self._ports.mail_smtp),
                "MILENA_SMTP_TLS": "none",
                "MILENA_MAIL_URL": f"http://{LOOPBACK}:{self._ports.mail_page}/",
            }
        return addresses

    def _record_processes(self) -> None:
        if self._record is None:
            return
        pids = self._supervisor.pids()
        processes = tuple(
            ProcessRecord(name, pids[command.name], command.port)
            for command in self._services
            if command.name in pids
            for name in list_recorded(command)
        )
        self._record = StackRecord(**{**vars(self._record), "processes": processes})
        write_record(self._paths.record, self._record)


async def run_stack(settings: StackSettings, output: Output, on_ready: Callable[[], None]) -> None:
    """Run a stack until SIGINT, SIGTERM or the end of its terminal.

    ``on_ready`` is called once everything is up and a mail was sent. Raises StackError when it
    cannot be started; nothing is left running then.
    """
    paths = DataPaths(settings.data_dir)
    paths.create()
    with hold(paths.lock):
        require_free(list_ports(settings, Ports.from_offset(settings.port_offset)))
        stack = LocalStack(settings, output)
        stopping = _listen_for_signals(stack)
        try:
            if await _do_unless(stopping, _bring_up(stack, output)):
                on_ready()
                await stopping.wait()
        finally:
            output.say("stopping (Ctrl-C again: at once)")
            began = time.monotonic()
            await stack.stop()
            output.say(f"stopped after {time.monotonic() - began:.1f} s; all data is kept in {paths.root}")


async def _bring_up(stack: LocalStack, output: Output) -> None:
    began = time.monotonic()
    record = await stack.start()
    output.say(f"everything is ready after {time.monotonic() - began:.1f} s; sending a first mail")
    try:
        status = await send_and_follow(record, FIRST_RECIPIENT, output.say)
    except TimeoutError:
        status = "still on its way"
    output.say(f"the mail is {output.emphasise(status)}")
    output.say()
    for line in describe_addresses(record):
        output.say(line, kept=line.replace(record.api_key, hint_of(record.api_key)))


def describe_addresses(record: StackRecord) -> list[str]:
    """Give the lines that say where everything is."""
    lines = [f"  Milena            {record.base_url}/", f"  API to try out    {record.base_url}/docs"]
    if record.mail_url is not None:
        lines.append(f"  caught mail       {record.mail_url}")
    else:
        relay = f"{record.smtp_host}:{record.smtp_port}" if record.smtp_host else "those of MILENA_RELAYS"
        lines.append(f"  relay             {relay} (mail really leaves)")
    lines.append(f"  SMTP to Milena    {LOOPBACK}:{record.smtp_ingest_port}, any user, the key as the password")
    return [*lines, f"  development key   {record.api_key}", f"  send from         {record.from_address}"]


def _listen_for_signals(stack: LocalStack) -> asyncio.Event:
    stopping = asyncio.Event()

    first = float("inf")

    def on_signal() -> None:
        nonlocal first
        first = min(first, time.monotonic())
        # `make` passes a SIGTERM on to a child that has had it already: that is no second thought.
        if time.monotonic() - first > _ONE_SIGNAL_S:
            stack.hurry()
        stopping.set()

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # ignored: `nohup make up`
        numbers.append(signal.SIGHUP)
    for number in numbers:
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    return stopping


async def _do_unless(stopping: asyncio.Event, work: Coroutine[object, object, None]) -> bool:
    """Do the work, unless told to stop before it is done; says whether it was done."""
    doing, told = asyncio.create_task(work), asyncio.create_task(stopping.wait())
    await asyncio.wait({doing, told}, return_when=asyncio.FIRST_COMPLETED)
    if not doing.done():
        doing.cancel()
        await asyncio.wait({doing})
        return False
    told.cancel()
    doing.result()
    return True
