"""Which addresses a callback may reach."""

import pytest

from services.callback.guard import find_refusal
from shared.settings import parse_networks

EVERYTHING = parse_networks("0.0.0.0/0,::/0")
LOCAL = parse_networks("127.0.0.0/8,::1/128,10.0.0.0/8,fc00::/7")

NEVER = [
    "169.254.169.254",
    "169.254.1.1",
    "fe80::1",
    "fe80::1%eth0",
    "fd00:ec2::254",
    "fd20:ce::254",
    "100.100.100.200",
    "192.0.0.192",
    "168.63.129.16",
    "0.0.0.0",
    "0.1.2.3",
    "::",
    "224.0.0.1",
    "239.255.255.250",
    "ff02::1",
    "::ffff:169.254.169.254",
    "::ffff:0.0.0.0",
    "64:ff9b::a9fe:a9fe",
    "::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "no address",
]
UNLESS_ALLOWED = [
    "127.0.0.1",
    "127.9.9.9",
    "::1",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "198.18.0.1",
    "255.255.255.255",
    "fc00::1",
    "fec0::1",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "::7f00:1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::1",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",
]
PUBLIC = ["93.184.215.14", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.mark.parametrize("address", NEVER)
def test_some_addresses_are_refused_even_where_everything_is_allowed(address: str) -> None:
    assert find_refusal(address, EVERYTHING)


@pytest.mark.parametrize("address", UNLESS_ALLOWED)
def test_what_is_not_public_is_refused_unless_allowed(address: str) -> None:
    assert find_refusal(address, ())
    assert find_refusal(address, EVERYTHING) is None


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_open(address: str) -> None:
    assert find_refusal(address, ()) is None


@pytest.mark.parametrize(
    ("address", "is_open"),
    [
        ("127.0.0.1", True),
        ("::ffff:127.0.0.1", True),
        ("::1", True),
        ("10.2.3.4", True),
        ("fd00::1", True),
        ("fd00:ec2::254", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
    ],
)
def test_allowed_networks_open_what_they_cover_and_nothing_else(address: str, is_open: bool) -> None:
    assert (find_refusal(address, LOCAL) is None) is is_open
