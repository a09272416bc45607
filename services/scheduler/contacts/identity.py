"""Who a recipient is: an address within an account. Pure.

Contacts, entries of recipient lists and unsubscriptions of one address share one id. It is derived, so that nothing
has to be looked up, and it does not give the address away: an unsubscription that holds the id alone outlives the
erasure of all the rest.
"""

from uuid import UUID

from shared.events.identity import derive_recipient_id


def fold_address(address: str) -> str:
    """The form in which recipients are compared: case does not count, before the @ neither.

    RFC 5321 lets two mailboxes differ by the case of their local part, nobody does; but people write their own now so,
    now so, and would get a mailing twice.
    """
    return address.lower()


def identify_recipient(account: str, address: str) -> UUID:
    """The id of the recipient. `address` as `check_address` gives it."""
    return derive_recipient_id(account, fold_address(address))
