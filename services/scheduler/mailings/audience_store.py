"""An audience as a query: whom it means, recipient by recipient."""

from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

from services.scheduler.mailings.audience import Audience
from shared.database import PLAN_EACH_TIME, Database


def open_audiences(database_url: str) -> Database:
    """The database for whoever reads audiences; a large one never takes the last connection of somebody else.

    Whether an index helps depends on the tag or value: among a million contacts, one plan for all of them took 18 s to
    find the 333 with two attributes, a plan for these values 6 ms.
    """
    return Database(database_url, pool_size=2, application_name="milena-scheduler-audiences", planning=PLAN_EACH_TIME)


class Source(NamedTuple):
    """A SELECT of `recipient`, `address`, `name`, `zone`, `variables` (jsonb) and `since`, and its arguments.

    Each recipient once, in no order; `since` is when he came into the audience. What is asked of it as a subquery
    (`recipient > …`, an order, a limit) is answered through an index on account or list, and recipient.
    """

    sql: str
    args: list[Any]


def write_source(account: str, audience: Audience, first: int = 1) -> Source:
    """The audience of an account's mailing; its arguments are `$first` and those that follow."""
    args: list[Any] = [account]

    def bind(value: Any) -> str:
        args.append(value)
        return f"${first + len(args) - 1}"

    if audience.list:
        return Source(_LIST.format(account=f"${first}", list=bind(audience.list)), args)
    conditions = [f"contact.account = ${first}", *_list_conditions(audience, bind)]
    return Source(_CONTACTS.format(conditions=" AND ".join(conditions)), args)


def _list_conditions(audience: Audience, bind: Callable[[Any], str]) -> list[str]:
    conditions: list[str] = []
    if audience.any:
        conditions.append(f"contact.tags && {bind(list(audience.any))}::text[]")
    if audience.all:
        conditions.append(f"contact.tags @> {bind(list(audience.all))}::text[]")
    if audience.none:
        conditions.append(f"NOT contact.tags && {bind(list(audience.none))}::text[]")
    for name, wanted in audience.attributes.items():
        choices = wanted if isinstance(wanted, list) else [wanted]
        given = [
            f"NOT contact.attributes ? {bind(name)}"
            if choice is None
            else f"contact.attributes @> {bind(orjson.dumps({name: choice}).decode())}::jsonb"
            for choice in choices
        ]
        conditions.append(f"({' OR '.join(given)})")
    return conditions


_CONTACTS = """
    SELECT contact.id AS recipient, contact.address, contact.name, contact.timezone AS zone,
           contact.attributes AS variables, contact.created_at AS since
    FROM scheduler.contact AS contact WHERE {conditions}
"""
_LIST = """
    SELECT entry.recipient, entry.address, entry.name, entry.zone, entry.variables, list.ready_at AS since
    FROM scheduler.mailing_list AS list JOIN scheduler.mailing_list_entry AS entry ON entry.list = list.id
    WHERE list.account = {account} AND list.id = {list} AND list.state = 'ready'
"""
