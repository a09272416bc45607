"""The ids of a batch's mails: each tells the batch it belongs to, and its number in it. Pure.

UUIDv7 as the batch's own id is, so that the read model finds a mail by its id's time. The number stands where RFC 9562
§6.2 has a counter (the 12 bits of `rand_a` and the first 8 of `rand_b`): ids sort as the items do, nothing need be kept
to number them, and the same item of the same batch is always the same mail. The other 54 random bits are the batch's.
"""

from uuid import UUID

from shared.events import make_uuid

MOST_ITEMS = 2**20 - 1
_LOW = 54  # bits below the number's lower part
_WITHOUT_NUMBER = ~(0xFFF << 64 | 0xFF << _LOW)


def derive_item_id(batch_id: UUID, number: int) -> UUID:
    """The email id of item `number`, from 1 on."""
    return make_uuid((batch_id.int & _WITHOUT_NUMBER | number >> 8 << 64 | (number & 0xFF) << _LOW) ^ 1)


def find_number(email_id: UUID) -> int:
    """The number of an item, from its id."""
    return (email_id.int >> 64 & 0xFFF) << 8 | email_id.int >> _LOW & 0xFF
