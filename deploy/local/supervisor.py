"""Keeps the processes of the stack running, and stops them."""

import asyncio
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local.children import signal_group, spawn
from deploy.local.output import Output
from deploy.local.restarts import RestartPolicy

# The workers drain for 30 s and end themselves after 60 s (P12), so nobody needs longer.
STOP_GRACE_S = 75.0
_REFUSED = 2  # the exit code for wrong settings, which trying again will not change
_HOPELESS_EXITS = 4


@dataclass(frozen=True)
class Command:
    """One process of the stack: its name, what is run, with which environment, and where it answers."""

    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    port: int
    directory: Path


class Supervisor:
    """Runs commands, starts those that ended again, and stops them all.

    ``on_change`` is called after every start, when ``pids`` has changed.
    """

    def __init__(self, output: Output, on_change: Callable[[], None] = lambda: None) -> None:
        self._output = output
        self._on_change = on_change
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._policies: dict[str, RestartPolicy] = {}
        self._exits: dict[str, int] = {}

    def pids(self) -> dict[str, int]:
        """Give the process id of every process that is running, by name."""
        return {name: process.pid for name, process in self._running.items()}

    def find_failure(self, name: str) -> str | None:
        """Say why it is no use to wait for a process: it refuses its settings, or keeps ending. None while it is."""
        early, code = self._policies[name].early_exits, self._exits.get(name)
        if code is None or not (early > _HOPELESS_EXITS or (early and code == _REFUSED)):
            return None
        words = self._output.last_words(name)
        return words if code == _REFUSED and words else f"keeps ending ({_describe_exit(code)}): {words}"

    def start(self, command: Command) -> None:
        """Run a command from now until ``stop``."""
        self._policies[command.name] = RestartPolicy()
        self._keepers[command.name] = asyncio.create_task(self._keep(command))

    async def stop(self, names: list[str] | None = None, grace_s: float = STOP_GRACE_S) -> None:
        """Stop the named processes (all by default): SIGTERM together, SIGKILL after the grace."""
        chosen = [name for name in names if name in self._keepers] if names is not None else list(self._keepers)
        keepers = [self._keepers.pop(name) for name in chosen]
        for name, keeper in zip(chosen, keepers, strict=True):
            process = self._running.get(name)
            if process is None:
                keeper.cancel()
            else:
                process.send_signal(signal.SIGTERM)
        if keepers:
            _, unfinished = await asyncio.wait(keepers, timeout=grace_s)
            self.kill(chosen)
            if unfinished:
                self._output.say(f"killed after {grace_s:.0f} s: {', '.join(n for n in chosen if n in self._running)}")
                await asyncio.wait(unfinished, timeout=5)

    def kill(self, names: list[str] | None = None) -> None:
        """SIGKILL the named processes (all by default) and everything they have started."""
        for name, process in list(self._running.items()):
            if names is None or name in names:
                signal_group(process.pid, signal.SIGKILL)

    async def _keep(self, command: Command) -> None:
        policy = self._policies[command.name]
        while True:
            started = time.monotonic()
            try:
                how = _describe_exit(await self._run(command))
            except OSError as exc:  # no process, memory or file descriptor to be had at the moment
                how = f"could not be started: {exc}"
            if command.name not in self._keepers:
                return
            delay = policy.delay_after(time.monotonic() - started)
            self._output.say_for(command.name, f"ended ({how}); starting it again in {delay:g} s")
            await asyncio.sleep(delay)

    async def _run(self, command: Command) -> int:
        process = spawn(command.arguments, stdout=subprocess.PIPE, env=command.environment, cwd=command.directory)
        self._running[command.name] = process
        self._on_change()
        copying = asyncio.create_task(self._output.copy(command.name, process.stdout))
        if command.name not in self._keepers:  # told to stop while it was being started
            process.send_signal(signal.SIGTERM)
        # Asked, not awaited: asyncio's own wait() also waits for everybody who holds the output open.
        while (code := process.poll()) is None:
            await asyncio.sleep(0.05)
        signal_group(process.pid, signal.SIGKILL)  # what it has started goes with it, and releases its output
        await asyncio.wait([copying], timeout=1)
        copying.cancel()
        del self._running[command.name]
        self._exits[command.name] = code
        return code


def _describe_exit(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
