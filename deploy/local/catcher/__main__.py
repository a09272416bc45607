"""``python -m deploy.local.catcher --directory DIR --smtp-port N --page-port N``: run the mail catcher."""

import asyncio
import signal
from pathlib import Path

import typer

from deploy.local.catcher import Catcher, Mailbox


async def run(directory: Path, smtp_port: int, page_port: int, keep: int) -> None:
    """Catch mail until SIGTERM or SIGINT."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    catcher = Catcher(Mailbox(directory, keep), smtp_port=smtp_port, page_port=page_port)
    await catcher.start()
    print(f"catching mail on port {catcher.smtp_port}, showing it on port {catcher.page_port}", flush=True)
    await stopping.wait()
    await catcher.stop()


def main(directory: Path, smtp_port: int = 2525, page_port: int = 8025, keep: int = 1000) -> None:
    """Catch every mail sent to this SMTP server, keep the newest in DIRECTORY, and show them on a page."""
    import uvloop

    uvloop.run(run(directory, smtp_port, page_port, keep))


if __name__ == "__main__":
    typer.run(main)
