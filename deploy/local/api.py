"""``python -m deploy.local.api``: the APIs of all services in one process, behind one origin."""

import uvicorn
import uvloop

from deploy.local.dispatcher import Api, Dispatcher
from deploy.local.front import create_front
from deploy.local.settings import FrontSettings
from services.callback import api as callback_api
from services.callback.settings import ApiSettings as CallbackSettings
from services.gateway import api as gateway_api
from services.gateway.settings import ApiSettings as GatewaySettings
from services.scheduler import api as scheduler_api
from services.scheduler.settings import ApiSettings as SchedulerSettings
from services.sender import api as sender_api
from services.sender.settings import ApiSettings as SenderSettings
from shared.serving import create_protocol
from shared.settings import load_settings
from shared.telemetry import set_up_telemetry


def create_apis() -> tuple[Api, ...]:
    """Build every service's API from the environment."""
    return (
        Api("gateway", gateway_api.PREFIXES, gateway_api.create_api(load_settings(GatewaySettings))),
        Api("scheduler", scheduler_api.PREFIXES, scheduler_api.create_api(load_settings(SchedulerSettings))),
        Api("callback", callback_api.PREFIXES, callback_api.create_api(load_settings(CallbackSettings))),
        Api("sender", sender_api.PREFIXES, sender_api.create_api(load_settings(SenderSettings))),
    )


def create_dispatcher(settings: FrontSettings) -> Dispatcher:
    """Every service's API, and what routes between them."""
    apis = create_apis()
    return Dispatcher(apis, create_front(apis, settings))


def main() -> None:
    """Serve until SIGTERM."""
    settings = load_settings(FrontSettings)
    set_up_telemetry(settings, service="api")
    uvloop.install()
    uvicorn.run(
        create_dispatcher(settings),
        host=settings.http_host,
        port=settings.http_port,
        http=create_protocol(settings),
        log_config=None,
        access_log=False,
        log_level="warning",
        proxy_headers=False,  # the APIs know whom they trust (MILENA_TRUSTED_PROXIES)
        server_header=False,
        timeout_graceful_shutdown=10,
    )


if __name__ == "__main__":
    main()
