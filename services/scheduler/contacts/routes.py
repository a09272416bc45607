"""`/v1/contacts`: making, reading and changing contacts."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import FastAPI, Query, Request, Response

from services.scheduler.contacts.answers import ContactPage, ContactView, show_contact
from services.scheduler.contacts.bodies import CHANGES, NEW_CONTACT, ContactChanges, NewContact
from services.scheduler.contacts.contact import Contact
from services.scheduler.contacts.identity import identify_recipient
from services.scheduler.contacts.merging import GROWN
from services.scheduler.contacts.queries import AFTER_POINTER, PATH, SCOPE, TAG, ContactId, ContactQuery
from services.scheduler.contacts.store import ContactStore, Merged
from shared.access import ApiKey, KeyLookup
from shared.apidocs import describe_body, describe_problems
from shared.authenticating import authenticate
from shared.bodies import parse_model, read_changes, read_model
from shared.cursors import mark_list, read_cursor, write_cursor
from shared.problems import Problem, invalid_content


def setup_contact_routes(app: FastAPI, keys: KeyLookup, store: ContactStore) -> None:
    """Add the routes on contacts that are there."""
    _setup_list(app, keys, store)
    _setup_one(app, keys, store)


def setup_contact_making(app: FastAPI, keys: KeyLookup, store: ContactStore) -> None:
    """Add `POST /v1/contacts`."""

    @app.post(
        PATH,
        tags=TAG,
        summary="Make or change a contact",
        response_model=ContactView,
        status_code=200,
        responses=describe_problems(400, 401, 403, 413, 422, 503)
        | {201: {"model": ContactView, "description": "There was none with this address"}},
        openapi_extra=describe_body({"application/json": (NewContact, NEW_CONTACT)}),
    )
    async def put_contact(request: Request, response: Response) -> ContactView:
        """A contact is its address, whose case does not count: where there is one with it, it is changed as far as
        something is given, and the answer is 200; 201 where it is new. `tags` are replaced as a whole, `attributes` one
        by one. Many at once: `POST /v1/contacts/import`.
        """
        key = await authenticate(request, keys, SCOPE)
        wanted = (await read_model(request, NewContact)).to_recipient(key.account)
        merged = _refuse_grown(await store.merge(key.account, [wanted]))
        response.status_code = 201 if merged.created else 200
        response.headers["location"] = f"{PATH}/{wanted.id}"
        return show_contact(await find_contact(store, wanted.id, key))


async def find_contact(store: ContactStore, contact_id: UUID, key: ApiKey) -> Contact:
    """The account's contact. Raises Problem 404."""
    found = await store.find(key.account, contact_id)
    if found is None:
        raise Problem(404, "not-found", "Your account has no such contact.")
    return found


def _setup_list(app: FastAPI, keys: KeyLookup, store: ContactStore) -> None:
    @app.get(
        PATH,
        tags=TAG,
        summary="Contacts",
        responses=describe_problems(401, 403, 422, 503),
    )
    async def list_contacts(request: Request, query: Annotated[ContactQuery, Query()]) -> ContactPage:
        """All contacts of the account, or those with these tags and attributes, by id, which is in no order that means
        anything. While `next` is there, there are more: ask again with it as `after`.
        """
        key = await authenticate(request, keys, SCOPE)
        if query.address:
            found = await store.find(key.account, identify_recipient(key.account, query.address))
            return ContactPage(data=[show_contact(found)] if found else [])
        wanted, mark = query.to_filter(), mark_list(key.account, *query.tag, "", *query.attribute)
        after = _read_position(query.after, mark) if query.after else None
        contacts = await store.list_page(key.account, wanted, after, query.limit + 1)
        shown = contacts[: query.limit]
        more = write_cursor(str(shown[-1].id), mark) if len(contacts) > query.limit else None
        return ContactPage(data=list(map(show_contact, shown)), next=more)


def _setup_one(app: FastAPI, keys: KeyLookup, store: ContactStore) -> None:
    responses: Any = describe_problems(401, 403, 404, 422, 503)

    @app.get(f"{PATH}/{{contact_id}}", tags=TAG, summary="One contact", responses=responses)
    async def read_contact(request: Request, contact_id: ContactId) -> ContactView:
        """Give all that is known of it."""
        return show_contact(await find_contact(store, contact_id, await authenticate(request, keys, SCOPE)))

    @app.patch(
        f"{PATH}/{{contact_id}}",
        tags=TAG,
        summary="Change a contact",
        responses=responses | describe_problems(400, 413),
        openapi_extra=describe_body({"application/json": (ContactChanges, CHANGES)}),
    )
    async def change_contact(request: Request, contact_id: ContactId) -> ContactView:
        """What is given is changed: `tags` as a whole, `attributes` one by one, null takes away. The address is what
        makes the contact, and stays; who has another one is another contact.
        """
        key = await authenticate(request, keys, SCOPE)
        changes = parse_model(await read_changes(request), ContactChanges)
        _refuse_grown(await store.change(changes.apply_to(await find_contact(store, contact_id, key))))
        return show_contact(await find_contact(store, contact_id, key))


def _refuse_grown(merged: Merged) -> Merged:
    if merged.refused:
        raise invalid_content([{"detail": GROWN, "pointer": "/attributes"}])
    return merged


def _read_position(text: str, mark: str) -> UUID:
    contact_id, of = read_cursor(text, 2, AFTER_POINTER)
    try:
        if of == mark:
            return UUID(contact_id)
    except ValueError:
        pass
    detail = "belongs to another list: change nothing but `after` from page to page, or leave it out to begin anew"
    raise invalid_content([{"detail": detail, "pointer": AFTER_POINTER}])
