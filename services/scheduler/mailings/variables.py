"""What the templates of a mailing may speak of. Pure."""

from collections.abc import Mapping
from typing import Any

OWN = frozenset({"address", "name"})
"""What every recipient has, whatever else is known of him."""
LINK = "unsubscribe_url"
"""What he has where the mailing says how to unsubscribe; the sender fills it in."""


def fill_in(address: str, name: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The variables of one recipient. An attribute never takes the place of his address or name."""
    return {**attributes, "address": address, "name": name}
