"""The condition under which somebody gets no mailing, for the statements that choose recipients.

It is asked twice: when an audience is frozen, and once more of what is about to leave, for people unsubscribe in
between. `recipient` names a column with its table, or it would be that of the unsubscriptions themselves; null is never
unsubscribed.
"""


def look_up_unsubscribed(recipient: str) -> str:
    """Whether one of some recipients is: always by the primary key, however many have unsubscribed."""
    assert "." in recipient
    return (
        "coalesce((SELECT true FROM scheduler.unsubscription AS unsubscribed"
        f" WHERE unsubscribed.recipient = {recipient}), false)"
    )


def is_unsubscribed(recipient: str) -> str:
    """The same for a whole audience: PostgreSQL may read all unsubscriptions once."""
    assert "." in recipient
    return f"EXISTS (SELECT FROM scheduler.unsubscription AS unsubscribed WHERE unsubscribed.recipient = {recipient})"
