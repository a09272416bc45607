"""Who calls, and whether he may: addresses and networks. Pure."""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address

from shared.settings import Network

Address = IPv4Address | IPv6Address
_ENTRY = re.compile(r"\[([^\]]+)\](?::\d+)?|([0-9.]+)(?::\d+)?|([0-9A-Fa-f:.]+)")


def find_caller(peer: str, forwarded_for: str, trusted_proxies: tuple[Network, ...]) -> Address | None:
    """The peer, unless it is a trusted proxy: then the right-most of the forwarded addresses that is none.

    None where that is no address (a proxy that writes names, a Unix socket).
    """
    caller = parse_address(peer)
    hops = forwarded_for.split(",") if forwarded_for else []
    while hops and caller is not None and contains(trusted_proxies, caller):
        caller = parse_address(hops.pop())
    return caller


def parse_address(text: str) -> Address | None:
    """An address, with a port or without; one of IPv4 within IPv6 is what it is. None for anything else."""
    match = _ENTRY.fullmatch(text.strip())
    if not match:
        return None
    try:
        address = ip_address((match[1] or match[2] or match[3]).partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


def contains(networks: tuple[Network, ...], address: Address) -> bool:
    """Whether one of the networks has the address."""
    return any(address in network for network in networks)
