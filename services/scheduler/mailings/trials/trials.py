"""Looking at a mailing before it is sent: how it reads, a test mail of it, and what would become of it.

Raises Problem, DatabaseUnavailable.
"""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from services.scheduler.contacts.identity import identify_recipient
from services.scheduler.mailings.answers import (
    CheckWarning,
    MailingCheck,
    MailingPreview,
    MissingVariable,
    TemplateFault,
    TestAccepted,
    TestMail,
)
from services.scheduler.mailings.audience import Audience
from services.scheduler.mailings.bodies import RecipientChoice, TestRequest
from services.scheduler.mailings.commands import find_mailing, find_now
from services.scheduler.mailings.content import Errors, Rendered, find_needs, render
from services.scheduler.mailings.defining import refuse_senders
from services.scheduler.mailings.mailing import Mailing
from services.scheduler.mailings.store import MailingStore
from services.scheduler.mailings.trials.checking import (
    Trial,
    count_shut_out,
    estimate_duration,
    list_problems,
    list_warnings,
)
from services.scheduler.mailings.trials.recipient_store import Recipient, RecipientStore
from services.scheduler.mailings.trials.testing import compose_test
from services.scheduler.mailings.variables import LINK
from services.scheduler.unsubscribing.links import LinkMaker
from services.scheduler.waiting.delayed import DelayedMail, merge
from services.scheduler.waiting.store import SchedulerStore
from shared.access import ApiKey
from shared.apidocs import FieldError
from shared.problems import invalid_content
from shared.turns import take_turns

_SAMPLE = 500
_TURN_S = 0.005  # single requests are not to wait for it
_TRIAL_S = 2.0  # templates may take milliseconds each


class Trials:
    """The commands."""

    def __init__(
        self,
        store: MailingStore,
        recipients: RecipientStore,
        outbox: SchedulerStore,
        links: LinkMaker | None,
        event_limit: int,
        now: Callable[[], datetime] = find_now,
    ) -> None:
        self._store = store
        self._recipients = recipients
        self._outbox = outbox
        self._links = links
        self._event_limit = event_limit
        self._now = now

    async def preview(self, key: ApiKey, mailing_id: UUID, wanted: RecipientChoice) -> MailingPreview:
        """What a recipient would read."""
        mailing = await find_mailing(self._store, mailing_id, key)
        recipient = await self._choose(mailing, wanted)
        rendered = render(mailing.definition.content, self._fill_in(mailing, recipient))
        return MailingPreview(
            address=recipient.address,
            name=recipient.name,
            variables=recipient.variables,
            subject=rendered.subject,
            text=rendered.text,
            html=rendered.html,
            errors=[FieldError.model_validate(each) for each in _list_errors(rendered)],
        )

    async def compose_tests(
        self, key: ApiKey, mailing_id: UUID, wanted: TestRequest, idempotency_key: str | None
    ) -> list[DelayedMail]:
        """The test mails; nothing is sent yet. Where it cannot be rendered: Problem 422, and nothing is."""
        mailing = await find_mailing(self._store, mailing_id, key)
        refuse_senders(mailing.definition, key)
        recipient = await self._choose(mailing, wanted)
        variables = self._fill_in(mailing, recipient)
        if errors := _list_errors(render(mailing.definition.content, variables)):
            raise invalid_content(errors)
        addresses = dict.fromkeys(wanted.to)
        now = self._now()
        return [
            compose_test(mailing, key, address, variables, now, idempotency_key, self._event_limit)
            for address in addresses
        ]

    async def send_tests(self, mails: list[DelayedMail], addresses: list[str]) -> TestAccepted:
        """Keep them as mail whose time has come: a worker lets them go within a moment, once each."""
        await self._outbox.add(merge(mails), [], timedelta())
        told = zip(dict.fromkeys(addresses), mails, strict=True)
        return TestAccepted(data=[TestMail(address=address, id=mail.id) for address, mail in told])

    async def check(self, key: ApiKey, mailing_id: UUID) -> MailingCheck:
        """Count the audience, try the templates, and say what is wrong."""
        mailing = await find_mailing(self._store, mailing_id, key)
        definition, now = mailing.definition, self._now()
        given = {LINK} if definition.unsubscribe else set()
        needed = sorted(find_needs(definition.content).required - given)
        count = await self._recipients.count(mailing.account, definition.audience, needed)
        missing = [pair for pair in zip(needed, count.lacking, strict=True) if pair[1]]
        trial = await self._try(mailing) if count.recipients else Trial(definition.content)
        mails = count.recipients - count.unsubscribed
        duration = estimate_duration(mails, definition.rate, definition.hours)
        problems = self._list_problems(mailing, key, is_empty=not count.recipients)
        shut_out = await self._count_shut_out(mailing, now)
        warnings = list_warnings(definition, now, duration, trial, lacking=len(missing), shut_out=shut_out)
        return MailingCheck(
            ready=not problems,
            recipients=count.recipients,
            unsubscribed=count.unsubscribed,
            mails=mails,
            tried=trial.tried,
            missing=[MissingVariable(variable=name, recipients=lacking) for name, lacking in missing],
            template_errors=_show_faults(trial),
            estimated_duration_s=duration.total_seconds() if duration else None,
            problems=[FieldError.model_validate(each) for each in problems],
            warnings=[CheckWarning(code=code, detail=detail) for code, detail in warnings],
        )

    async def refuse_unready(self, key: ApiKey, mailing: Mailing) -> None:
        """What a start has to ask. Raises Problem 403 for the sender, 422 with all else that is in its way."""
        refuse_senders(mailing.definition, key)
        is_empty = await self._recipients.is_empty(mailing.account, mailing.definition.audience)
        if problems := self._list_problems(mailing, key, is_empty=is_empty):
            raise invalid_content(problems)

    def _list_problems(self, mailing: Mailing, key: ApiKey, *, is_empty: bool) -> Errors:
        is_reachable = self._links is not None
        return list_problems(mailing.definition, key, self._now(), is_empty=is_empty, is_reachable=is_reachable)

    def _fill_in(self, mailing: Mailing, recipient: Recipient) -> dict[str, Any]:
        """What the templates are rendered with. The link is one for trying: nobody is unsubscribed by it."""
        variables = recipient.fill_in()
        if mailing.definition.unsubscribe and self._links:
            variables[LINK] = self._links.begin(mailing.account, mailing.id, trial=True)(recipient.id)
        return variables

    async def _count_shut_out(self, mailing: Mailing, now: datetime) -> int:
        definition = mailing.definition
        if definition.hours is None or definition.finish_at is None:
            return 0
        zones = await self._recipients.count_by_zone(mailing.account, definition.audience)
        return count_shut_out(definition, now, zones)

    async def _try(self, mailing: Mailing) -> Trial:
        definition = mailing.definition
        trial = Trial(definition.content)
        sample = await self._recipients.list_some(mailing.account, definition.audience, _SAMPLE)
        until = time.monotonic() + _TRIAL_S
        async for recipient in take_turns(sample, _TURN_S):
            if time.monotonic() > until:
                break
            trial.take(self._fill_in(mailing, recipient))
        return trial

    async def _choose(self, mailing: Mailing, wanted: RecipientChoice) -> Recipient:
        """Whom it is rendered for. Raises Problem 422 where there is nobody."""
        audience = mailing.definition.audience
        if sample := wanted.recipient:
            recipient_id = identify_recipient(mailing.account, sample.address)
            return Recipient(recipient_id, sample.address, sample.name, sample.variables)
        if wanted.address:
            within = audience if audience.list else Audience()
            recipient_id = identify_recipient(mailing.account, wanted.address)
            found = await self._recipients.find(mailing.account, within, recipient_id)
            if found is None:
                detail = (
                    f"nobody has it {'in the list' if audience.list else 'among the contacts'}; or give `recipient`"
                )
                raise invalid_content([{"detail": detail, "pointer": "/address"}])
            return found
        first = await self._recipients.list_some(mailing.account, audience, 1)
        if not first:
            detail = "is needed: nobody is in the audience"
            raise invalid_content([{"detail": detail, "pointer": "/recipient"}])
        return first[0]


def _list_errors(rendered: Rendered) -> Errors:
    """With pointers into the mailing."""
    return [{"detail": each.detail, "pointer": f"/content/{each.field}"} for each in rendered.errors]


def _show_faults(trial: Trial) -> list[TemplateFault]:
    return [
        TemplateFault.model_validate(
            {"field": field, "detail": detail, "recipients": fault.recipients, "example": fault.example}
        )
        for (field, detail), fault in trial.faults.items()
    ]
