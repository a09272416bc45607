"""``python -m deploy.local up|start|stop|status|send|run``: the local stack's commands, behind `make`.

A command loads what only it needs: most take half the time without SQLAlchemy, Alembic and the clients.
"""

import asyncio
import os
import sys
from typing import Annotated

import typer

from deploy.local.background import FAILED, READY, describe_status, start_in_background, stop_background
from deploy.local.commands import run_command
from deploy.local.errors import StackError
from deploy.local.lock import find_holder
from deploy.local.output import Output
from deploy.local.paths import DataPaths
from deploy.local.record import read_record
from deploy.local.settings import FIRST_RECIPIENT, StackSettings, read_environment
from shared.logs import set_up_logs
from shared.settings import load_settings

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.command()
def up(ready_fd: Annotated[int | None, typer.Option(hidden=True)] = None) -> None:
    """Run everything in the foreground until Ctrl-C."""
    from deploy.local.up import run_stack

    settings = load_settings(StackSettings)
    set_up_logs("WARNING", settings.log_format)
    pipe = os.fdopen(ready_fd, "w", encoding="utf-8") if ready_fd is not None else None
    if ready_fd is not None:
        os.set_inheritable(ready_fd, False)  # the services must not hold the pipe open
    output = Output(also=pipe)

    def on_ready() -> None:
        if pipe is None:
            output.say("\n  Ctrl-C stops everything and loses nothing.")
        else:
            pipe.write(f"{READY}\n")
            pipe.close()
            output.forget_second_stream()

    try:
        asyncio.run(run_stack(settings, output, on_ready))
    except StackError as exc:
        if pipe is not None and not pipe.closed:
            pipe.write(f"{FAILED}\n{exc}\n")
            pipe.close()
        raise


@app.command()
def start() -> None:
    """Run everything in the background; returns when it is ready."""
    paths = _read_paths()
    if find_holder(paths.lock) is not None:
        from deploy.local.up import describe_addresses

        print("already running")
        print("\n".join(describe_addresses(read_record(paths.record))))
        return
    start_in_background(paths, print)
    print(f"\n  running in the background; output in {paths.log}; `make stop` stops it")


@app.command()
def stop() -> None:
    """Stop what runs on this data directory; all data is kept."""
    paths = _read_paths()
    print("stopped" if stop_background(paths) else f"no stack is running on {paths.root}")


@app.command()
def status() -> None:
    """Say which processes run and whether they are ready; exit code 1 when something is not."""
    well, lines = describe_status(_read_paths())
    print("\n".join(lines))
    raise typer.Exit(0 if well else 1)


@app.command()
def send(to: str = FIRST_RECIPIENT) -> None:
    """Send one mail through the running stack and print its timeline."""
    from deploy.local.welcome import send_and_follow

    record = read_record(_read_paths().record)
    try:
        print(f"the mail is {asyncio.run(send_and_follow(record, to, print))}")
    except TimeoutError:
        raise StackError("the mail is still on its way; `make status` shows what is not ready.") from None


@app.command()
def run(command: Annotated[list[str], typer.Argument(help="-- services.gateway reconcile --since 1h")]) -> None:
    """Run a service's own command against the running stack; its exit code is that command's."""
    run_command(_read_paths(), command, read_environment())


def _read_paths() -> DataPaths:
    return DataPaths(load_settings(StackSettings).data_dir)


def main() -> None:
    """Run a command; an error that people can act on is one line and exit code 1."""
    try:
        app()
    except StackError as exc:
        print(f"milena: {exc}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
