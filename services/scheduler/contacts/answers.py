"""What the API answers about contacts: the models of its JSON."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field

from services.scheduler.contacts.contact import Contact
from services.scheduler.contacts.contact_import import ContactImport, ImportState
from services.scheduler.contacts.erasing_store import Erasure
from services.scheduler.contacts.import_store import ImportProblem

CONTACT_ID = "8d3cf3bc-7e3c-5b0e-9d52-2c1a7f1f6f10"
IMPORT_ID = "01a2b3c4-d5e6-7f80-9a1b-2c3d4e5f6071"


class ContactView(BaseModel):
    """A contact."""

    id: UUID = Field(description="follows from account and address; case does not count", examples=[CONTACT_ID])
    address: str = Field(examples=["ann@example.org"])
    name: str = Field(examples=["Ann"])
    timezone: str | None = Field(examples=["Europe/Berlin"])
    tags: list[str] = Field(examples=[["customer", "vip"]])
    attributes: dict[str, Any] = Field(examples=[{"plan": "pro", "seats": 5}])
    unsubscribed_at: datetime | None = Field(description="since when it gets no mailings; null: it gets them")
    created_at: datetime
    changed_at: datetime


class ContactPage(BaseModel):
    """Contacts, by id."""

    data: list[ContactView]
    next: str | None = Field(default=None, description="there are more: `after` of the next request")


class ImportLinks(BaseModel):
    """Where to read on."""

    self: str = Field(examples=[f"/v1/contacts/imports/{IMPORT_ID}"])
    problems: str = Field(examples=[f"/v1/contacts/imports/{IMPORT_ID}/problems"])


class ImportView(BaseModel):
    """An import and how far it is. `rows` = `created` + `changed` + `unchanged` + `invalid`."""

    id: UUID = Field(examples=[IMPORT_ID])
    name: str | None = Field(default=None, examples=["customers.csv"])
    state: ImportState = Field(description="`aborted`: what had come by then was taken; `detail` says why")
    detail: str | None = None
    percent: float | None = Field(default=None, description="of the bytes, where the upload said how many it has")
    rows: int = Field(description="so far; the header row does not count", examples=[1_000_000])
    created: int = Field(examples=[990_000])
    changed: int = Field(examples=[500])
    unchanged: int = Field(description="said nothing new", examples=[9_480])
    invalid: int = Field(description="are no contacts, and were left out", examples=[20])
    created_at: datetime
    finished_at: datetime | None = None
    links: ImportLinks


class ImportRowProblem(BaseModel):
    """A row that was left out."""

    row: int = Field(description="from 1 on; the header row does not count", examples=[17])
    line: int = Field(description="where it begins in the file", examples=[18])
    field: str | None = Field(description="the column", examples=["address"])
    detail: str = Field(examples=["not an email address: there is no @"])


class ContactsImported(ImportView):
    """What became of a file."""

    problems: list[ImportRowProblem] = Field(description="the first 20; `links.problems` has all")


class ImportPage(BaseModel):
    """Imports, newest first."""

    data: list[ImportView]
    next: str | None = Field(default=None, description="there are more: `after` of the next request")


class ErasedPlace(BaseModel):
    """Where something was erased."""

    where: str = Field(description="table", examples=["scheduler.contact"])
    rows: int = Field(examples=[1])


class Remainder(BaseModel):
    """What an erasure does not reach."""

    what: str
    where: str
    until: str


class ErasureView(BaseModel):
    """The proof of an erasure. It holds no address: `contact` is a hash of account and address."""

    id: UUID = Field(examples=[IMPORT_ID])
    contact: UUID = Field(examples=[CONTACT_ID])
    erased_at: datetime
    api_key_id: str = Field(description="whose request it was")
    erased: list[ErasedPlace]
    remains: list[Remainder]


class ErasurePage(BaseModel):
    """Erasures, newest first."""

    data: list[ErasureView]
    next: str | None = Field(default=None, description="there are more: `after` of the next request")


REMAINS = [
    Remainder(
        what="mail that was requested for the address, with its body",
        where="Kafka, topic email.requested; results name the address, too (email.sent, email.failed)",
        until="the topics' retention is over",
    ),
    Remainder(
        what="mail that is with the senders, waits for its time or another try, or is part of a batch",
        where="sender.due, scheduler.delayed, scheduler.bulk_mail",
        until="it is sent or has failed for good; what it says is dropped then, or 30 days later",
    ),
    Remainder(
        what="status and timeline of mail, without bodies; what became of each recipient",
        where="gateway.emails, sender.ledger, callback.delivery",
        until="90 days after the mail, or as the settings of their retention say",
    ),
    Remainder(
        what="that the address is not to be written to, if somebody has said so",
        where="sender.suppression",
        until="it is removed there (DELETE /v1/suppressions)",
    ),
    Remainder(
        what="that the recipient has unsubscribed, if he has: a hash, no address",
        where="scheduler.unsubscription",
        until="for good, so that he is not written to again",
    ),
]


def show_contact(contact: Contact) -> ContactView:
    """A contact as it is told."""
    return ContactView.model_validate(contact, from_attributes=True)


def show_import(found: ContactImport) -> ImportView:
    """An import as it is told."""
    path = f"/v1/contacts/imports/{found.id}"
    return ImportView(
        id=found.id,
        name=found.name,
        state=found.state,
        detail=found.detail,
        percent=found.percent,
        rows=found.rows,
        created=found.created,
        changed=found.changed,
        unchanged=found.unchanged,
        invalid=found.invalid,
        created_at=found.created_at,
        finished_at=found.finished_at,
        links=ImportLinks(self=path, problems=f"{path}/problems"),
    )


def show_problem(problem: ImportProblem) -> ImportRowProblem:
    """A row that was left out, as it is told."""
    return ImportRowProblem(row=problem.row, line=problem.line, field=problem.field, detail=problem.detail)


def show_erasure(erasure: Erasure) -> ErasureView:
    """An erasure as it is told."""
    return ErasureView(
        id=erasure.id,
        contact=erasure.recipient,
        erased_at=erasure.erased_at,
        api_key_id=erasure.api_key_id,
        erased=[ErasedPlace(where=place, rows=rows) for place, rows in erasure.erased.items()],
        remains=REMAINS,
    )
