"""The mails of a batch that failed, as mails of another batch: new ids, the same content. Pure."""

from datetime import datetime
from uuid import UUID

import orjson

from services.scheduler.batches.item_store import FailedMail
from services.scheduler.batches.numbering import derive_item_id
from services.scheduler.pacing.lanes import LaneKey
from services.scheduler.pacing.rows import BulkRow


def renew(mail: FailedMail, number: int, original: UUID, retry: UUID, lane: LaneKey, now: datetime) -> BulkRow:
    """The row of the retry. It expires as a mail does of which nothing is said."""
    new_id = derive_item_id(retry, number)
    if mail.content is None:
        fields = orjson.loads(mail.own)
        fields |= {"id": str(new_id), "batch_id": str(retry), "retry_of": str(mail.id)}
        fields.pop("expires_at", None)
        return BulkRow(new_id, lane, number, now, None, None, orjson.dumps(fields), mail.traceparent)
    own = orjson.loads(mail.own) | {"retry_of": str(mail.id)}
    # Written by us, so the member looks like this; in a text it would have other quotation marks.
    content = mail.content.replace(
        b'"batch_id":"%b"' % str(original).encode(), b'"batch_id":"%b"' % str(retry).encode()
    )
    return BulkRow(new_id, lane, number, now, None, content, orjson.dumps(own), mail.traceparent)
