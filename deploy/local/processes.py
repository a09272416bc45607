"""The processes of a stack: what is run, with which environment, on which port."""

import json
import sys
from collections.abc import Mapping

from deploy.local.paths import DataPaths
from deploy.local.ports import LOOPBACK, Ports
from deploy.local.settings import FIRST_RECIPIENT, REPOSITORY, StackSettings
from deploy.local.supervisor import Command

CATCHER = "mail-catcher"
API = "api"
APIS = ("gateway", "scheduler", "callback", "sender")
# A callback of somebody who tries Milena out goes to a server on his own machine.
_OPEN_CALLBACKS = "127.0.0.0/8,::1/128,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7"

# So that a task that only names `send_email` shows something here.
_DEFAULT_MAIL = {
    "to": [FIRST_RECIPIENT],
    "subject": "Your task has run",
    "text": "A task ran the job send_email. Give it args, and it sends what they say.\n",
}


def build_environment(
    inherited: Mapping[str, str],
    servers: Mapping[str, str],
    ports: Ports,
    master_secret: str,
    scheme: str = "http",
    from_address: str = "no-reply@example.com",
) -> dict[str, str]:
    """Give what every process of the stack has in its environment; ``servers`` are its MILENA_ addresses.

    ``scheme`` is that of the APIs; ``from_address`` that of mail which tasks send without saying more.
    """
    base_url = f"{scheme}://{LOOPBACK}:{ports.http}"
    return {
        "MILENA_CALLBACK_ALLOWED_NETWORKS": _OPEN_CALLBACKS,
        "MILENA_JOB_DEFAULTS": json.dumps({"send_email": {"from": from_address, **_DEFAULT_MAIL}}),
        "MILENA_LOG_FORMAT": "text",
        # Of this machine alone, as mail that is caught is; from elsewhere it is whatever the environment says.
        "MILENA_PUBLIC_URL": base_url,
        **inherited,
        **servers,
        "MILENA_MASTER_SECRET": master_secret,
        "MILENA_HTTP_HOST": LOOPBACK,
        "MILENA_HTTP_PORT": str(ports.http),
        "MILENA_BASE_URL": base_url,
        "MILENA_SMTP_INGEST_PORT": str(ports.smtp_ingest),
        "PYTHONUNBUFFERED": "1",
    }


def build_catcher(paths: DataPaths, ports: Ports, inherited: Mapping[str, str]) -> Command:
    """Give the mail catcher's command."""
    arguments = ["--smtp-port", str(ports.mail_smtp), "--page-port", str(ports.mail_page)]
    return _command(CATCHER, ["deploy.local.catcher", str(paths.mail), *arguments], inherited, ports.mail_page)


def build_services(settings: StackSettings, ports: Ports, environment: Mapping[str, str]) -> list[Command]:
    """Give the commands of all services: one process for all APIs, one for each other command and sender."""
    commands = [_command(API, ["deploy.local.api"], environment, ports.http)]
    others = [
        ("gateway-smtp", ("services.gateway", "smtp"), 0, ports.gateway_smtp),
        ("gateway-worker", ("services.gateway", "worker"), 0, ports.gateway_worker),
        ("scheduler-worker", ("services.scheduler", "worker"), 0, ports.scheduler_worker),
        ("scheduler-jobs", ("services.scheduler", "jobs"), 0, ports.scheduler_jobs),
        ("callback-worker", ("services.callback", "worker"), 0, ports.callback_worker),
        *(
            (f"sender-{slot}", ("services.sender", "worker"), slot, ports.sender(slot))
            for slot in range(settings.senders)
        ),
    ]
    for name, arguments, slot, port in others:
        own = {**environment, "MILENA_SLOT": str(slot), "MILENA_HEALTH_PORT": str(port)}
        commands.append(_command(name, list(arguments), own, port))
    return commands


def list_ports(settings: StackSettings, ports: Ports) -> list[tuple[str, int]]:
    """Give every port this stack is going to listen on, each with what it is for."""
    wanted = [("HTTP", ports.http), ("SMTP ingest", ports.smtp_ingest)]
    if settings.catches_mail:
        wanted += [("caught mail, SMTP", ports.mail_smtp), ("caught mail, page", ports.mail_page)]
    if settings.kafka_bootstrap_servers is None:
        wanted += [("Kafka", ports.kafka), ("Kafka's controller", ports.kafka_controller)]
    wanted += [(command.name, command.port) for command in build_services(settings, ports, {})[1:]]
    return wanted


def list_recorded(command: Command) -> list[str]:
    """Give the names under which stack.json lists a process: the one API process stands for all APIs."""
    return [f"{api}-api" for api in APIS] if command.name == API else [command.name]


def _command(name: str, arguments: list[str], environment: Mapping[str, str], port: int) -> Command:
    return Command(name, (sys.executable, "-m", *arguments), dict(environment), port, REPOSITORY)
