"""Trying mails again: deciding, reading their records, noting the retries, publishing them."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from services.gateway.accepting import Acceptor
from services.gateway.rereading import RecordReader, Spot
from services.gateway.retries import Candidate, Relative, RetryRefused, choose, read_again, renew
from services.gateway.retry_store import Noted, Reservation, RetryStore
from services.gateway.store import ReadModel, Row
from shared.access import ApiKey
from shared.batching import Record
from shared.composing.composer import TooLarge
from shared.events import EmailRequested, new_email_id
from shared.publisher import EventTooLarge, PublisherUnavailable


@dataclass(frozen=True, slots=True)
class Retry:
    """A mail that is tried again as `mail`; `error` is what publishing raised, where Kafka may not hold it."""

    new_id: UUID
    mail: EmailRequested
    error: Exception | None = None


Result = Retry | RetryRefused


@dataclass(frozen=True, slots=True)
class _Family:
    """A mail's family as it was read."""

    root: UUID
    relatives: list[Relative]
    others: list[Row]
    lines: list[Row]


class Retrier:
    """Tries mails again, each at most once at a time."""

    def __init__(
        self, emails: ReadModel, store: RetryStore, reader: RecordReader, acceptor: Acceptor, event_limit: int
    ) -> None:
        self._emails = emails
        self._store = store
        self._reader = reader
        self._acceptor = acceptor
        self._event_limit = event_limit

    async def retry(
        self, rows: Sequence[Row], key: ApiKey, traceparent: str | None, *, include_unknown: bool
    ) -> dict[UUID, Result]:
        """What became of each mail, by its id. Raises DatabaseUnavailable, ReplayUnavailable: nothing is published."""
        results: dict[UUID, Result] = {}
        candidates: list[Candidate] = []
        families = await self._load_families(rows)
        for row in rows:
            family = families[row["id"]]
            try:
                candidates.append(
                    choose(row, family.lines, family.relatives, family.others, include_unknown=include_unknown)
                )
            except RetryRefused as exc:
                results[row["id"]] = exc
        records = await self._reader.read({spot for each in candidates for spot in each.spots})
        mails = self._compose_all(candidates, records, key, results)
        noted = await self._reserve(mails, {each.row["id"]: each for each in candidates}, families)
        for mail_id in mails.keys() - noted.keys():
            results[mail_id] = RetryRefused("retry-in-progress", "Somebody else has just had this mail tried again.")
        return results | await self._publish(noted, traceparent)

    async def _load_families(self, rows: Sequence[Row]) -> dict[UUID, _Family]:
        roots = await self._store.find_roots([row["id"] for row in rows])
        noted: dict[UUID, list[Noted]] = {}
        for each in await self._store.list_families(set(roots.values())):
            noted.setdefault(each.root, []).append(each)
        members = {each.id for family in noted.values() for each in family} | noted.keys()
        known = {row["id"]: row for row in rows} | await self._emails.find_emails(list(members))
        lines: dict[UUID, list[Row]] = {}
        for line in await self._store.list_lines(list(known.values())):
            lines.setdefault(UUID(int=line["email_id"].int), []).append(line)
        return {
            row["id"]: _gather(row["id"], roots[row["id"]], noted.get(roots[row["id"]], []), known, lines)
            for row in rows
        }

    def _compose_all(
        self,
        candidates: Iterable[Candidate],
        records: Mapping[Spot, Record],
        key: ApiKey,
        results: dict[UUID, Result],
    ) -> dict[UUID, EmailRequested]:
        """The new mails by the ids of those they retry; refusals go into `results`."""
        now = datetime.now(UTC)
        now = now.replace(microsecond=now.microsecond // 1000 * 1000)
        mails: dict[UUID, EmailRequested] = {}
        for each in candidates:
            mail_id = each.row["id"]
            try:
                mail, record = read_again(each, records, self._reader.cluster_id, self._event_limit)
                _check_permission(mail, key)
            except RetryRefused as exc:
                results[mail_id] = exc
            else:
                mails[mail_id] = renew(mail, each, record, new_id=new_email_id(), api_key_id=key.id, now=now)
        return mails

    async def _reserve(
        self,
        mails: Mapping[UUID, EmailRequested],
        candidates: Mapping[UUID, Candidate],
        families: Mapping[UUID, _Family],
    ) -> dict[UUID, EmailRequested]:
        reservations = []
        for mail_id, mail in mails.items():
            assert mail.id is not None
            root, number = families[mail_id].root, candidates[mail_id].number
            reservations.append(Reservation(mail.id, mail_id, root, number, mail.account))
        ours = await self._store.reserve(reservations)
        return {mail_id: mail for mail_id, mail in mails.items() if mail.id in ours}

    async def _publish(self, mails: Mapping[UUID, EmailRequested], traceparent: str | None) -> dict[UUID, Result]:
        answers = await asyncio.gather(
            *(self._acceptor.accept(mail, traceparent) for mail in mails.values()), return_exceptions=True
        )
        results: dict[UUID, Result] = {}
        unwritten: list[UUID] = []
        for (mail_id, mail), answer in zip(mails.items(), answers, strict=True):
            if isinstance(answer, BaseException) and not isinstance(answer, Exception):
                raise answer
            assert mail.id is not None
            results[mail_id] = Retry(mail.id, mail, answer if isinstance(answer, Exception) else None)
            if isinstance(answer, PublisherUnavailable | EventTooLarge | TooLarge):
                unwritten.append(mail.id)
        if unwritten:
            await self._store.forget(unwritten)
        return results


def _gather(
    mail_id: UUID, root: UUID, noted: Iterable[Noted], known: Mapping[UUID, Row], lines: Mapping[UUID, list[Row]]
) -> _Family:
    relatives = [Relative(each.id, each.number, each.age, known.get(each.id)) for each in noted]
    members = {root, *(each.id for each in relatives)} - {mail_id}
    return _Family(
        root,
        relatives,
        [known[each] for each in members if each in known],
        [line for each in (mail_id, *members) for line in lines.get(each, ())],
    )


def _check_permission(mail: EmailRequested, key: ApiKey) -> None:
    """A retry is what the mail was. That of a real one by a test key would take it from its recipients for good."""
    if key.test and not mail.test:
        raise RetryRefused("test-key", "A test key has only mail of test keys tried again.")
    for address in (mail.from_.address, mail.envelope_from):
        if address and not key.may_send_from(address):
            raise RetryRefused("sender-not-allowed", "The sender of this mail is not among those of this API key.")
