"""Contacts, and lists of recipients: `client.contacts` and `client.lists`, for keys with the scope `mailings:admin`."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

from milena import mass_calls as calls
from milena.mass_calls import LISTS, Rows
from milena.reach import AsyncReach, Reach

_ALL: Mapping[str, Any] = MappingProxyType({})
FileFormat = Literal["csv", "ndjson"]


class Contacts:
    """Whom mailings go to. Contacts are as the API tells them: id, address, name, timezone, tags, attributes …"""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach

    def put(self, address: str, **fields: Any) -> dict[str, Any]:
        """Make a contact, or change what is given of the one with this address. Gives it."""
        return self._reach.ask(calls.put_contact(address, fields))

    def read(self, contact_id: str) -> dict[str, Any]:
        """A contact. Raises NotFound."""
        return self._reach.ask(calls.read_contact(contact_id))

    def find(self, address: str) -> dict[str, Any] | None:
        """The contact with this address."""
        found = self._reach.ask(calls.find_contact(address))["data"]
        return found[0] if found else None

    def iterate(self, *, tags: Sequence[str] = (), attributes: Mapping[str, Any] = _ALL) -> Iterator[dict[str, Any]]:
        """All contacts, or those that have all of these."""
        return self._reach.iterate(calls.list_contacts(tags, attributes))

    def change(self, contact_id: str, **changes: Any) -> dict[str, Any]:
        """Change what is given; attributes one by one, None takes back. Gives the contact."""
        return self._reach.ask(calls.change_contact(contact_id, changes))

    def erase(self, contact_id: str) -> dict[str, Any]:
        """Erase a contact, also from lists. Gives the proof."""
        return self._reach.ask(calls.erase_contact(contact_id))

    def upload(self, rows: Rows, *, name: str | None = None) -> dict[str, Any]:
        """Import contacts from a file, or from rows. Gives what became of it; `problems` are the first bad rows."""
        return self._reach.ask(calls.import_contacts(rows, name))

    def export(
        self, kind: FileFormat = "csv", *, tags: Sequence[str] = (), attributes: Mapping[str, Any] = _ALL
    ) -> Iterator[bytes]:
        """The same as `iterate`, as a file, a piece at a time. Raises ConnectionFailed where it was cut off."""
        return self._reach.download(calls.export_contacts(tags, attributes, kind))


class Lists:
    """Recipients for a mailing who need not be contacts."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach

    def upload(self, rows: Rows, *, name: str | None = None) -> dict[str, Any]:
        """Upload a list: `address`, `name`, `timezone`, and variables. Gives it; `problems` are the first bad rows.

        It is not sent again by itself where no answer came: that would be another list.
        """
        return self._reach.ask(calls.upload_list(rows, name))

    def read(self, list_id: str) -> dict[str, Any]:
        """A list. Raises NotFound."""
        return self._reach.ask(calls.read_list(list_id))

    def iterate(self) -> Iterator[dict[str, Any]]:
        """All lists, newest first."""
        return self._reach.iterate(calls.list_all(LISTS, {}))

    def delete(self, list_id: str) -> None:
        """Delete a list. Raises Conflict while a mailing needs it."""
        self._reach.ask(calls.delete_list(list_id))


class AsyncContacts:
    """Contacts, with `await`."""

    def __init__(self, reach: AsyncReach) -> None:
        self._reach = reach

    async def put(self, address: str, **fields: Any) -> dict[str, Any]:
        """See Contacts.put."""
        return await self._reach.ask(calls.put_contact(address, fields))

    async def read(self, contact_id: str) -> dict[str, Any]:
        """See Contacts.read."""
        return await self._reach.ask(calls.read_contact(contact_id))

    async def find(self, address: str) -> dict[str, Any] | None:
        """See Contacts.find."""
        found = (await self._reach.ask(calls.find_contact(address)))["data"]
        return found[0] if found else None

    def iterate(
        self, *, tags: Sequence[str] = (), attributes: Mapping[str, Any] = _ALL
    ) -> AsyncIterator[dict[str, Any]]:
        """See Contacts.iterate."""
        return self._reach.iterate(calls.list_contacts(tags, attributes))

    async def change(self, contact_id: str, **changes: Any) -> dict[str, Any]:
        """See Contacts.change."""
        return await self._reach.ask(calls.change_contact(contact_id, changes))

    async def erase(self, contact_id: str) -> dict[str, Any]:
        """See Contacts.erase."""
        return await self._reach.ask(calls.erase_contact(contact_id))

    async def upload(self, rows: Rows, *, name: str | None = None) -> dict[str, Any]:
        """See Contacts.upload."""
        return await self._reach.ask(calls.import_contacts(rows, name))

    def export(
        self, kind: FileFormat = "csv", *, tags: Sequence[str] = (), attributes: Mapping[str, Any] = _ALL
    ) -> AsyncIterator[bytes]:
        """See Contacts.export."""
        return self._reach.download(calls.export_contacts(tags, attributes, kind))


class AsyncLists:
    """Lists, with `await`."""

    def __init__(self, reach: AsyncReach) -> None:
        self._reach = reach

    async def upload(self, rows: Rows, *, name: str | None = None) -> dict[str, Any]:
        """See Lists.upload."""
        return await self._reach.ask(calls.upload_list(rows, name))

    async def read(self, list_id: str) -> dict[str, Any]:
        """See Lists.read."""
        return await self._reach.ask(calls.read_list(list_id))

    def iterate(self) -> AsyncIterator[dict[str, Any]]:
        """See Lists.iterate."""
        return self._reach.iterate(calls.list_all(LISTS, {}))

    async def delete(self, list_id: str) -> None:
        """See Lists.delete."""
        await self._reach.ask(calls.delete_list(list_id))
