"""What may be attached, as an operator says it."""

from typing import Annotated

from pydantic import AfterValidator, Field

from shared.composing.attachments import DEFAULT_REFUSED, AttachmentRules, parse_refused
from shared.events.requested import ATTACHMENT_LIMIT
from shared.settings import EnvironmentSettings


def _check_refused(text: str) -> str:
    parse_refused(text)
    return text


class AttachmentSettings(EnvironmentSettings):
    """What may be attached to a mail that does not come over the topic; sizes in bytes of the decoded files."""

    attachment_count: int = Field(default=100, ge=0, le=ATTACHMENT_LIMIT, description="attachments of a mail")
    attachment_bytes: int = Field(default=10 * 1024 * 1024, ge=1, description="of one")
    attachment_bytes_total: int = Field(default=25 * 1024 * 1024, ge=1, description="of all those of a mail")
    refused_attachments: Annotated[str, AfterValidator(_check_refused)] = Field(
        default=DEFAULT_REFUSED, description="extensions and content types, separated by commas; none: all are taken"
    )

    @property
    def attachment_rules(self) -> AttachmentRules:
        """The rules these settings make."""
        refused = parse_refused(self.refused_attachments)
        return AttachmentRules(self.attachment_count, self.attachment_bytes, self.attachment_bytes_total, refused)
