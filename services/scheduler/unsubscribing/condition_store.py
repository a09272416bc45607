"""The condition under which somebody gets no mailing, for the statements that choose recipients."""


def is_unsubscribed(recipient: str) -> str:
    """A condition on `recipient`, an SQL expression for a recipient's id; null is never unsubscribed.

    Meant for both ends: `AND NOT {is_unsubscribed("contact.id")}` when an audience is frozen, and once more of the rows
    that are about to leave, for people unsubscribe in between. It costs a look-up by primary key.
    """
    return f"EXISTS (SELECT FROM scheduler.unsubscription AS unsubscribed WHERE unsubscribed.recipient = {recipient})"
