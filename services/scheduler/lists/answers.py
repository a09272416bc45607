"""What the API answers about lists of recipients: the models of its JSON."""

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, Field

from services.scheduler.lists.recipient_list import ListState, ProblemKind, RecipientList, RowProblem

LIST_ID = "01a2b3c4-d5e6-7f80-9a1b-2c3d4e5f6071"


class ListRowProblem(BaseModel):
    """A row that made no entry."""

    number: int = Field(description="of the row, from 1 on; a header row does not count", examples=[17])
    line: int = Field(description="where it begins in the file", examples=[18])
    kind: ProblemKind = Field(description="`duplicate`: the recipient has an entry already, and gets one mail")
    field: str | None = Field(description="the column", examples=["address"])
    detail: str = Field(examples=["not an email address: there is no @"])


class RecipientListView(BaseModel):
    """A list of recipients. `rows` = `recipients` + `duplicates` + `invalid`."""

    id: UUID = Field(examples=[LIST_ID])
    name: str | None = None
    state: ListState = Field(description="`aborted`: the upload was not whole, and nobody is in it")
    detail: str | None = Field(default=None, description="why it was aborted")
    recipients: int = Field(description="who would get a mail", examples=[99_980])
    rows: int = Field(description="of the upload", examples=[100_000])
    duplicates: int = Field(description="rows of a recipient that a row before has", examples=[15])
    invalid: int = Field(description="rows that are no recipient", examples=[5])
    variables: list[str] = Field(description="names that rows have values for", examples=[["plan", "prize"]])
    created_at: datetime
    ready_at: datetime | None = None


class ListUploaded(RecipientListView):
    """The list, whole."""

    problems: list[ListRowProblem] = Field(description="the first 20; `GET /v1/lists/{id}/problems` has all")


class RecipientListPage(BaseModel):
    """Lists, newest first."""

    data: list[RecipientListView]
    next: str | None = Field(default=None, description="there are more: `after` of the next request")


class ListProblemPage(BaseModel):
    """Rows that made no entry, in the order of the upload."""

    data: list[ListRowProblem]
    next: str | None = Field(default=None, description="there are more: `after` of the next request")


def show_list(found: RecipientList) -> RecipientListView:
    """A list as it is told."""
    return RecipientListView.model_validate(found, from_attributes=True)


def show_problem(problem: RowProblem) -> ListRowProblem:
    """A row that made no entry, as it is told."""
    return ListRowProblem.model_validate(problem._asdict())


def show_uploaded(found: RecipientList, problems: list[RowProblem]) -> ListUploaded:
    """A list that has just come."""
    return ListUploaded(**show_list(found).model_dump(), problems=list(map(show_problem, problems)))
