"""The catcher as one thing to start and stop."""

import asyncio

from aiohttp import web

from deploy.local.catcher.mailbox import Mailbox
from deploy.local.catcher.page import create_page
from deploy.local.catcher.smtp import create_protocol
from deploy.local.ports import LOOPBACK


class Catcher:
    """SMTP and page of one mailbox, both on loopback; port 0 lets the system choose."""

    def __init__(self, mailbox: Mailbox, *, smtp_port: int = 0, page_port: int = 0) -> None:
        self.mailbox = mailbox
        self.smtp_port = smtp_port
        self.page_port = page_port
        self._smtp: asyncio.Server | None = None
        self._page: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen. Raises OSError when a port is taken."""
        loop = asyncio.get_running_loop()
        self._smtp = await loop.create_server(
            lambda: create_protocol(self.mailbox, loop), LOOPBACK, self.smtp_port, backlog=512
        )
        self.smtp_port = self._smtp.sockets[0].getsockname()[1]
        self._page = web.AppRunner(create_page(self.mailbox), access_log=None)
        await self._page.setup()
        await web.TCPSite(self._page, LOOPBACK, self.page_port).start()
        self.page_port = self._page.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening and drop the connections that are open."""
        if self._smtp is not None:
            self._smtp.close()
        if self._page is not None:
            await self._page.cleanup()
