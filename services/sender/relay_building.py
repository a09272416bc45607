"""From settings to relays and their shares: this part of the worker's object graph."""

from collections.abc import Awaitable, Callable

from services.sender.connecting import RelayAddress, open_connection
from services.sender.conversation import Timeouts
from services.sender.http_api import HttpAddress
from services.sender.http_relay import connect_http
from services.sender.lines import Address, Opened
from services.sender.parcel import Parcel
from services.sender.relay import Relay
from services.sender.relay_settings import HttpRelaySettings, RelaySettings, SmtpRelaySettings
from services.sender.routing import Relays
from services.sender.settings import WorkerSettings
from services.sender.shares import Limits
from services.sender.sharing import Sharing
from services.sender.store.shares import ShareStore
from services.sender.transit import Transit
from services.sender.work import Work
from shared.database import Database


def create_relays(settings: WorkerSettings, database: Database, transit: Transit) -> tuple[Relays, Sharing]:
    """The relays, which may use nothing before the second part has got them their shares."""
    described = settings.list_relays()
    relays = [_create_relay(each, settings) for each in described]
    limits = [
        Limits(each.name, each.kind, priority, each.connections, each.mails_per_second)
        for priority, each in enumerate(described)
    ]
    routed = Relays(relays, on_returned=transit.on_returned, on_late=transit.on_late, on_ready=transit.on_ready)
    return routed, Sharing(ShareStore(database), settings.slot, list(zip(relays, limits, strict=True)))


def _create_relay(described: RelaySettings, settings: WorkerSettings) -> Relay:
    if isinstance(described, HttpRelaySettings):
        address = to_http_address(described)
        timeouts = Timeouts(described.connect_timeout, described.timeout, described.idle_timeout)
        return _equip(described, settings, address, lambda to: connect_http(to, find_key), timeouts)
    timeouts = Timeouts(described.command_timeout, described.final_dot_timeout, described.idle_timeout)
    listed_as = described.name if settings.relays else None
    return _equip(described, settings, to_address(described, listed_as), open_connection, timeouts)


def _equip(
    described: RelaySettings,
    settings: WorkerSettings,
    address: Address,
    connect: Callable[..., Awaitable[Opened]],
    timeouts: Timeouts,
) -> Relay:
    return Relay(
        address,
        connect,
        connections=0,
        timeouts=timeouts,
        mails_per_connection=described.mails_per_connection,
        claims_per_connection=settings.claims_per_connection,
    )


def to_address(described: SmtpRelaySettings, listed_as: str | None) -> RelayAddress:
    """Where an SMTP relay is. `listed_as`: its name in MILENA_RELAYS; None where MILENA_SMTP_* describe it."""
    return RelayAddress(
        host=described.host,
        port=described.port,
        tls=described.tls,
        username=described.username,
        password=described.read_password(),
        verify=described.verify,
        ca_file=described.ca_file,
        local_hostname=described.local_hostname,
        timeout_s=described.command_timeout,
        listed_as=listed_as,
    )


def to_http_address(described: HttpRelaySettings) -> HttpAddress:
    """Where a provider's send API is."""
    return HttpAddress(
        described.name,
        described.url,
        described.read_token(),
        described.verify,
        described.ca_file,
        described.connect_timeout,
        described.timeout,
    )


def find_key(parcel: Parcel) -> str:
    """What a provider may know a repeat by: it changes after an answer, and stays while nobody knows the outcome."""
    work: Work = parcel.context
    return f"{work.id}-{work.entry.attempt - work.entry.unknowns}"
