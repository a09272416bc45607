"""How every API process listens."""

import uvicorn
from fastapi import FastAPI

from shared.settings import HttpSettings

STOP_GRACE_S = 10


def serve(app: FastAPI, settings: HttpSettings) -> None:
    """Serve until SIGTERM or SIGINT; requests at work get STOP_GRACE_S seconds."""
    uvicorn.run(
        app,
        host=settings.http_host,
        port=settings.http_port,
        loop="uvloop",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # MILENA_TRUSTED_PROXIES decides whom to believe
        server_header=False,
        timeout_graceful_shutdown=STOP_GRACE_S,
    )
