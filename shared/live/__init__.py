"""What happens on the topics, as it happens, for whoever listens over HTTP: one mechanism for SSE and WebSocket.

`position` the ids by which a listener resumes · `events` from record to event · `queueing` what waits for a listener ·
`feed` how Kafka is read · `hub` one reader for all of a process, while somebody listens · `past` what a listener has
missed · `following` both as one stream · `polling` streams of state instead, from a database, `viewing` where they are
to be had · `streams` what both have in common · `sse`, `websocket` how it is written · `slots` how many · `tickets` for
pages · `door` who may listen.

It knows nothing of mail: what a listener gets is for whoever opens the stream to say.
"""

from shared.live.door import Door, answer_too_many
from shared.live.events import LiveEvent, Message
from shared.live.feed import Feed
from shared.live.following import Live, Request
from shared.live.hub import LiveUnavailable
from shared.live.polling import Poller, Snapshot, ViewRequest
from shared.live.position import InvalidPosition, Position, read_position
from shared.live.slots import Slots, TooManyStreams
from shared.live.sse import EventStream, Opening
from shared.live.tickets import InvalidTicket, Ticket, TicketOffice
from shared.live.viewing import Sight, setup_sight
from shared.live.websocket import serve_websocket

__all__ = [
    "Door",
    "EventStream",
    "Feed",
    "InvalidPosition",
    "InvalidTicket",
    "Live",
    "LiveEvent",
    "LiveUnavailable",
    "Message",
    "Opening",
    "Poller",
    "Position",
    "Request",
    "Sight",
    "Slots",
    "Snapshot",
    "Ticket",
    "TicketOffice",
    "TooManyStreams",
    "ViewRequest",
    "answer_too_many",
    "read_position",
    "serve_websocket",
    "setup_sight",
]
