"""Which addresses a callback may reach. Pure.

Callers choose the URL, so without this they could let us speak to whatever our network reaches (SSRF). Judged is the
address that is really connected to, never the name.
"""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

from shared.settings import Network

_Address = IPv4Address | IPv6Address

# Where clouds tell an instance its credentials, outside 169.254.0.0/16: AWS (IPv6), Alibaba, Oracle, Azure.
_METADATA = frozenset(
    ip_address(text) for text in ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "192.0.0.192", "168.63.129.16")
)
_NAT64 = IPv6Network("64:ff9b::/96")
_COMPATIBLE = IPv6Network("::/96")
_THIS_NETWORK = ip_network("0.0.0.0/8")


def find_refusal(address: str, allowed: tuple[Network, ...]) -> str | None:
    """Why this address may not be connected to, None where it may.

    Link-local, metadata, unspecified, multicast and reserved ones never; others that are not public only where
    `allowed` covers them. An IPv4 address inside an IPv6 one is judged as what it leads to.
    """
    try:
        outer = ip_address(address.partition("%")[0])
    except ValueError:
        return "not an IP address"
    for inner in _unwrap(outer):
        reason = _judge(inner, allowed)
        if reason:
            return reason
    return None


def _judge(address: _Address, allowed: tuple[Network, ...]) -> str | None:
    if address in _METADATA or str(address) == "169.254.169.254":
        return "a cloud's metadata address"
    if address.is_link_local:
        return "a link-local address"
    if address.is_unspecified or address in _THIS_NETWORK:
        return "an unspecified address"
    if address.is_multicast:
        return "a multicast address"
    if any(address in network for network in allowed):
        return None
    if address.is_loopback:
        return "a loopback address, not in MILENA_CALLBACK_ALLOWED_NETWORKS"
    if address.is_reserved:
        return "a reserved address"
    if not address.is_global or (isinstance(address, IPv6Address) and address.is_site_local):
        return "a private address, not in MILENA_CALLBACK_ALLOWED_NETWORKS"
    return None


def _unwrap(address: _Address) -> list[_Address]:
    """The addresses a packet to this one may end at: itself, or the IPv4 addresses written into it."""
    if isinstance(address, IPv4Address):
        return [address]
    if address.ipv4_mapped:
        return [address.ipv4_mapped]
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
        return [IPv4Address(int(address) & 0xFFFFFFFF)]
    if address.sixtofour:
        return [address, address.sixtofour]
    if address.teredo:
        return [address, *address.teredo]
    return [address]
