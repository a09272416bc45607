"""The three jobs that drive mailings, each a scheduled task that shows what it did."""

from pydantic import BaseModel, Field

from services.scheduler.runs.job import JobContext, Tools


class MailingsStarted(BaseModel):
    """What a run of `start_mailing` did."""

    started: int = Field(description="mailings whose time had come")
    recipients: int = Field(description="taken in from audiences")
    repeated: int = Field(description="mails handed out again, because nothing was heard of them")
    next_round: int = Field(description="mails that failed and are tried again as new ones")


class MessagesSent(BaseModel):
    """How the mail of mailings that are not over goes, and what a run of `send_message` did."""

    handed_out: int = Field(description="mails that have left for the senders, so far")
    in_flight: int = Field(description="of these, mails that the senders have")
    waiting: int = Field(description="mails whose turn is to come")
    next_hours: int = Field(description="mails whose hours ended before their turn came, and that wait for the next")


class MailingsFinished(BaseModel):
    """What a run of `finish_mailing` did."""

    never_sent: int = Field(description="mails that could not leave before their mailing's end, and failed")
    finished: int = Field(description="mailings all of whose mails have their end")
    cancelled: int = Field(description="cancelled mailings all of whose mails have their end")


async def start_mailing(context: JobContext, tools: Tools) -> MailingsStarted:
    """Start the account's mailings that are due, and give mail another turn that failed or was not heard of."""
    return MailingsStarted.model_validate(await tools.mailings.start(context.account))


async def send_message(context: JobContext, tools: Tools) -> MessagesSent:
    """Tell how the account's mailings go, whose mail leaves all the time, and see to it that its hours are kept."""
    return MessagesSent.model_validate(await tools.mailings.send(context.account))


async def finish_mailing(context: JobContext, tools: Tools) -> MailingsFinished:
    """Fail what was never handed out and whose time is over; finish mailings all of whose mails have their end."""
    return MailingsFinished.model_validate(await tools.mailings.finish(context.account))
