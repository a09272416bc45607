"""What one key may give to another: nothing that it does not have itself. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from math import inf
from typing import NamedTuple

from shared.access.keys import ApiKey
from shared.addresses import sender_matches
from shared.settings import Network, QuotaSettings


class Excess(NamedTuple):
    """A right that is asked for and not held: in which field of a request, and in words."""

    field: str
    detail: str


@dataclass(frozen=True, slots=True)
class Grant:
    """The rights of a key, to be compared with those of another."""

    scopes: frozenset[str]
    senders: tuple[str, ...]
    networks: tuple[Network, ...]
    test: bool
    expires_at: datetime | None
    request_rate: float | None = None
    mail_rate: float | None = None


def rights_of(key: ApiKey) -> Grant:
    """What a key may do, from where, for how long and how often."""
    return Grant(key.scopes, key.senders, key.networks, key.test, key.expires_at, key.request_rate, key.mail_rate)


def find_excess(wanted: Grant, held: Grant, usual: QuotaSettings) -> list[Excess]:
    """Whatever `wanted` has beyond `held`; nothing where it may be given.

    Freedom counts, too: a key bound to networks, to an end, to rates or to simulated mail makes no key that is not.
    `usual`: the rates of a key that has none of its own.
    """
    return [
        *_find_scopes(wanted, held),
        *_find_senders(wanted, held),
        *_find_networks(wanted.networks, held.networks),
        *_find_freedom(wanted, held),
        *_find_rate("request_rate", wanted.request_rate, held.request_rate, usual.request_rate),
        *_find_rate("mail_rate", wanted.mail_rate, held.mail_rate, usual.mail_rate),
    ]


def _find_scopes(wanted: Grant, held: Grant) -> Iterable[Excess]:
    for scope in sorted(wanted.scopes - held.scopes):
        yield Excess("scopes", f"your key does not have the scope {scope} itself")


def _find_senders(wanted: Grant, held: Grant) -> Iterable[Excess]:
    for sender in wanted.senders:
        if not any(sender_matches(each, sender) for each in held.senders):  # a pattern is covered like an address
            yield Excess("senders", f"your key may not send from {sender} itself")


def _find_networks(wanted: tuple[Network, ...], held: tuple[Network, ...]) -> Iterable[Excess]:
    if not held:
        return
    if not wanted:
        yield Excess("networks", "your key is bound to networks; name some of them")
    for network in wanted:
        if not any(_lies_in(network, each) for each in held):
            yield Excess("networks", f"your key may not be used from {network} itself")


def _lies_in(inner: Network, outer: Network) -> bool:
    return inner.version == outer.version and (inner.network_address in outer and inner.prefixlen >= outer.prefixlen)


def _find_freedom(wanted: Grant, held: Grant) -> Iterable[Excess]:
    if held.test and not wanted.test:
        yield Excess("test", "your key is a test key; it makes test keys only")
    if held.expires_at and (wanted.expires_at is None or wanted.expires_at > held.expires_at):
        yield Excess("expires_at", f"your key ends at {held.expires_at.isoformat()}; no key of its making lasts longer")


def _find_rate(field: str, wanted: float | None, held: float | None, usual: float) -> Iterable[Excess]:
    own = _resolve_rate(held, usual)
    if _resolve_rate(wanted, usual) > own:
        yield Excess(field, f"your key has {own:g} a second itself; null is the usual rate, {usual:g} (0: no limit)")


def _resolve_rate(rate: float | None, usual: float) -> float:
    return (usual if rate is None else rate) or inf
