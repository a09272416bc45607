"""Every type of problem that an API answers with: what it is called, what it means, what to do about it.

The one list of them. `Problem` takes its titles from here; docs/problems.md, and the page that a problem's `type` leads
to (`/problems/<slug>`), are made from it; a test holds that no API answers with a type that is not in it.
"""

from dataclasses import dataclass

PAGES = "/problems/"


@dataclass(frozen=True, slots=True)
class ProblemType:
    """`statuses`: the HTTP status codes it comes with. `meaning` and `remedy` are sentences for whoever met it."""

    slug: str
    statuses: tuple[int, ...]
    title: str
    meaning: str
    remedy: str


def link_type(slug: str) -> str:
    """The `type` of a problem document: an address on the API's own origin (RFC 9457, 3.1.1: a full path)."""
    return f"{PAGES}{slug}"


_TYPES = (
    ProblemType(
        "malformed-json",
        (400,),
        "Malformed JSON",
        "The body is not JSON; `detail` names the line and column.",
        "Send valid JSON in UTF-8, with `Content-Type: application/json`.",
    ),
    ProblemType(
        "malformed-form",
        (400,),
        "Malformed form",
        "The body is not a form that can be read: too many fields, or not UTF-8.",
        "Send an ordinary form, or JSON.",
    ),
    ProblemType(
        "malformed-request",
        (400,),
        "Malformed request",
        "The request itself cannot be read, or the connection ended before its body did.",
        "Send it again, whole.",
    ),
    ProblemType(
        "malformed-idempotency-key",
        (400,),
        "Malformed Idempotency-Key",
        "The header `Idempotency-Key` is none, or is there twice.",
        "Send one of 1 to 255 printable ASCII characters, for example a UUID.",
    ),
    ProblemType(
        "not-authenticated",
        (401,),
        "Not authenticated",
        "There is no API key in the request, or it is not valid, was revoked or has expired.",
        "Send `Authorization: Bearer mk_…` with a valid key.",
    ),
    ProblemType(
        "ticket-invalid",
        (401,),
        "Ticket invalid",
        "The ticket of a live stream is none, or its 60 seconds are over.",
        "Ask for a new one: `POST /v1/live/tickets`.",
    ),
    ProblemType(
        "scope-missing",
        (403,),
        "Scope missing",
        "The API key is valid but may not do this; `scope` names what it lacks.",
        "Use a key with that scope.",
    ),
    ProblemType(
        "network-not-allowed",
        (403,),
        "Network not allowed",
        "Requests from the caller's network are not allowed, or not with this API key.",
        "Call from an allowed network, or have it added to `MILENA_ALLOWED_NETWORKS`, or to the key's networks."
        " Behind a proxy, name the proxy in"
        " `MILENA_TRUSTED_PROXIES`, so that the caller behind it is seen.",
    ),
    ProblemType(
        "origin-not-allowed",
        (403,),
        "Origin not allowed",
        "A browser's page of another origin wants to open a WebSocket here.",
        "Name its origin in `MILENA_ALLOWED_ORIGINS`, or serve it from the API's own.",
    ),
    ProblemType(
        "sender-not-allowed",
        (403,),
        "Sender not allowed",
        "The API key may not send from the address in `from` or `envelope_from`.",
        "Send from one of the key's senders, or use a key that has this one.",
    ),
    ProblemType(
        "grant-not-allowed",
        (403,),
        "Grant not allowed",
        "An API key can give another one only what it has itself: scopes, senders, networks, life, rates.",
        "Leave out what `errors` names, or use a key that has it.",
    ),
    ProblemType(
        "test-key",
        (403,),
        "Test key",
        "A test key was used for what is real: another key, or real mail to be tried again.",
        "Use a key that is no test key.",
    ),
    ProblemType(
        "not-one-click",
        (400,),
        "Not unsubscribed",
        "What was sent to a link to unsubscribe does not say `List-Unsubscribe=One-Click`. Nothing has changed.",
        "Send that as a form (RFC 8058), or open the link in a browser and use the button.",
    ),
    ProblemType(
        "unknown-link",
        (404,),
        "Unknown link",
        "The link to unsubscribe is not whole, or was not made here (its signature is not that of this master secret).",
        "Open it from the mail itself, or copy it whole. Links are good as long as `MILENA_MASTER_SECRET` is.",
    ),
    ProblemType(
        "not-found",
        (404,),
        "Not found",
        "There is nothing at this address, or no such thing in this account.",
        "Look at the address and the id; `/docs` lists what there is.",
    ),
    ProblemType(
        "key-not-found",
        (404,),
        "Key not found",
        "No API key of this account has this id.",
        "`GET /v1/keys` lists the ids.",
    ),
    ProblemType(
        "task-not-found",
        (404,),
        "Task not found",
        "No task of this account has this id.",
        "`GET /v1/tasks` lists the ids.",
    ),
    ProblemType(
        "job-not-found",
        (404,),
        "Job not found",
        "No job of this name is registered; `detail` names those that are.",
        "Use one of them (`GET /v1/jobs`), or name the module that registers it in `MILENA_JOB_MODULES`.",
    ),
    ProblemType(
        "run-not-found",
        (404,),
        "Run not found",
        "No run of this account has this id. Runs are kept for 30 days after their end.",
        "`GET /v1/tasks/{id}/runs` lists the ids.",
    ),
    ProblemType(
        "email-not-found",
        (404,),
        "Mail not found",
        "No mail of this account has this id. A mail appears within moments of its 202, and is kept for 90 days.",
        "Look at the id, and at whose key you use.",
    ),
    ProblemType(
        "method-not-allowed",
        (405,),
        "Method not allowed",
        "This address does not take this method; the `Allow` header lists those it takes.",
        "Use one of them.",
    ),
    ProblemType(
        "too-slow",
        (408,),
        "Request not received in time",
        "The request took too long to arrive; some seconds and one more for each 16 KiB are given. Nothing was done.",
        "Send it again, over a better connection, or less at once.",
    ),
    ProblemType(
        "already-final",
        (409,),
        "Already final",
        "The mail has come to its end; `email_status` says which. It cannot be cancelled any more.",
        "Nothing needs to be done.",
    ),
    ProblemType(
        "email-cancelled",
        (409,),
        "Mail cancelled",
        "The account has cancelled this mail, so it is not sent again.",
        "Settle it as sent or failed instead.",
    ),
    ProblemType(
        "not-scheduled",
        (409,),
        "Not scheduled",
        "The mail does not wait for its time any more: it has been handed to the senders, or was cancelled (`state`)."
        " Or it is to be moved, and has `priority: bulk`.",
        "Look at the mail's status. One that has left may still be stopped where it waits for another attempt:"
        " `POST /v1/emails/{id}/cancel`.",
    ),
    ProblemType(
        "last-admin-key",
        (409,),
        "Last admin key",
        "Without this key nobody could administer the account's keys over HTTP.",
        "Make another one with `keys:admin` first, or use the command `python -m services.gateway keys revoke`.",
    ),
    ProblemType(
        "key-not-usable",
        (409,),
        "Key not usable",
        "The key is revoked or has expired; it cannot be changed or rotated any more.",
        "Make a new one: `POST /v1/keys`.",
    ),
    ProblemType(
        "template-exists",
        (409,),
        "Template exists",
        "There is a template of this name already.",
        "`PUT /v1/templates/{name}` makes a new version of it.",
    ),
    ProblemType(
        "task-exists",
        (409,),
        "Task exists",
        "Another task of the account has this name.",
        "Take another name, or change that task.",
    ),
    ProblemType(
        "task-running",
        (409,),
        "Task running",
        "The task's run before still goes on, and it is not to overlap (`overlap`).",
        "Wait for its end (`GET /v1/tasks/{id}/runs`), or let the task overlap.",
    ),
    ProblemType(
        "not-waiting",
        (409,),
        "Not waiting",
        "The mail does not wait for an operator's decision (any more).",
        "Look at its status.",
    ),
    ProblemType(
        "decided-otherwise",
        (409,),
        "Decided otherwise",
        "A sender is about to act on another decision about this mail.",
        "Look at its status in a moment.",
    ),
    ProblemType(
        "idempotency-key-in-flight",
        (409,),
        "Idempotency-Key in flight",
        "A request with this `Idempotency-Key` is being carried out at this moment.",
        "Send the same request again after `Retry-After` seconds: it gets the first one's answer.",
    ),
    ProblemType(
        "unreadable",
        (409,),
        "Unreadable",
        "The request of this mail could not be read when it came, so it cannot be tried again.",
        "Send the mail anew.",
    ),
    ProblemType(
        "not-final",
        (409,),
        "Not final",
        "The mail, or one of the batch's, is still on its way, and is tried again by itself.",
        "Wait for its end.",
    ),
    ProblemType(
        "batch-state",
        (409,),
        "Not in this state",
        "The batch does not stand where this can be done to it; `state` says where it stands.",
        "Look the batch up; what is finished, cancelled or aborted cannot be changed any more.",
    ),
    ProblemType(
        "list-in-use",
        (409,),
        "List in use",
        "The list of recipients is being uploaded, or a mailing goes to it that has not taken its recipients in yet.",
        "Wait for that, or delete or change the mailing first.",
    ),
    ProblemType(
        "mailing-state",
        (409,),
        "Not in this state",
        "The mailing does not stand where this can be done to it; `state` says where it stands.",
        "Look the mailing up. While it runs only `name`, `rate` and `finish_at` can be changed, and it can be deleted"
        " before it runs or once all its mails have their end.",
    ),
    ProblemType(
        "nothing-to-retry",
        (409,),
        "Nothing to retry",
        "The relay has taken this mail for every recipient, of the mail or of its latest retry (`retry_id`); or no mail"
        " of the batch or mailing failed that could be tried again.",
        "Nothing needs to be done. Where `unknown` counts recipients of a mailing, the relay may have their mail: give"
        " `unknown: true` to send it nonetheless.",
    ),
    ProblemType(
        "retry-in-progress",
        (409,),
        "Retry in progress",
        "A retry of this mail (`retry_id`) is on its way, or may be.",
        "Wait for its end.",
    ),
    ProblemType(
        "aged-out",
        (409, 410),
        "Aged out",
        "What this needs is not kept any more: Kafka does not hold the mail's content, or the recipients of a mailing"
        " that has been over for long were deleted.",
        "Send the mail anew. Of a mailing there are still its counts; download its recipients while they are kept.",
    ),
    ProblemType(
        "too-large",
        (413,),
        "Too large",
        "The body, or the mail as an event, is larger than allowed; `limit` says how many bytes are.",
        "Send less: smaller attachments, or links in place of them.",
    ),
    ProblemType(
        "unsupported-media-type",
        (415,),
        "Unsupported media type",
        "The body has a content type that is not read here.",
        "Send the content type that `detail` names.",
    ),
    ProblemType(
        "invalid-content",
        (422,),
        "Invalid content",
        "The request could be read, but some of its fields are not acceptable.",
        "`errors` says for each of them what is wrong, and points to it (`pointer`, RFC 6901).",
    ),
    ProblemType(
        "idempotency-key-reused",
        (422,),
        "Idempotency-Key reused",
        "This `Idempotency-Key` was used for another request of this account in the last 24 hours.",
        "Use a new key for a new request.",
    ),
    ProblemType(
        "batch-refused",
        (422,),
        "Batch refused",
        "No mail of the batch was sent. `results` has the problem of each (of an upload: of the first, `items` of all)."
        " Within it, this type marks one that is acceptable and was not sent because of others (`all_or_nothing`).",
        "Mend the mails that `results` names, and send the batch again.",
    ),
    ProblemType(
        "list-refused",
        (422,),
        "List refused",
        "The upload leaves no list of recipients: it cannot be read, or none of its rows is a recipient. `results` has"
        " the first problems, `problems` leads to all.",
        "Mend the file and send it again. CSV is UTF-8 with a header row that names a column `address`.",
    ),
    ProblemType(
        "filter-empty",
        (422,),
        "Filter empty",
        "The request names no mails at all, and might mean all of them.",
        "Name a filter; `detail` says how to mean all.",
    ),
    ProblemType(
        "one-filter-only",
        (422,),
        "One filter only",
        "A list is by time and at most one of status, recipient, tag, mailing, batch and key.",
        "Leave out the others, and narrow the time range instead.",
    ),
    ProblemType(
        "unreadable-list",
        (422,),
        "Unreadable list",
        "The uploaded list cannot be read, or not from some line on, or has nobody in it; `imported` says how many were"
        " taken.",
        "Mend what `detail` names and send the list again: what is there already stays as it is.",
    ),
    ProblemType(
        "too-many-streams",
        (429, 503),
        "Too many streams",
        "The account (429), or the process (503), has as many live streams open as it may have; `limit` says how many.",
        "Close one, or come again after `Retry-After` seconds; `MILENA_LIVE_STREAMS` and"
        " `MILENA_LIVE_STREAMS_PER_ACCOUNT` are the limits.",
    ),
    ProblemType(
        "rate-limited",
        (429,),
        "Too many requests",
        "The API key has asked for more requests or mails (`limit`) than its rate allows; `rate` says how many it may"
        " have a second. Or one address has asked too often for `/unsubscribe`. Nothing was written.",
        "Send the request again after `Retry-After` seconds. The headers `RateLimit` say on every answer what is left.",
    ),
    ProblemType(
        "internal-error",
        (500,),
        "Internal error",
        "A fault of ours. It is in the log, under the `request_id` of the answer.",
        "Tell us, with the `request_id`.",
    ),
    ProblemType(
        "kafka-unavailable",
        (503,),
        "Kafka unavailable",
        "Kafka is away. Nothing was written.",
        "Send the request again after `Retry-After` seconds.",
    ),
    ProblemType(
        "outcome-unknown",
        (409, 503),
        "Outcome unknown",
        "With 503: Kafka has not confirmed the mail in time, and it may still be sent, under the `id` in the answer."
        " With 409: whether recipients of the mail got it is not known, so it is tried again on an explicit word only.",
        "With an `Idempotency-Key`, send the same request again. Without one look at the mail's status first.",
    ),
    ProblemType(
        "unavailable",
        (503,),
        "Unavailable",
        "PostgreSQL is away, or a key cannot be checked at the moment. Nothing was written.",
        "Send the request again after `Retry-After` seconds.",
    ),
    ProblemType(
        "overloaded",
        (503,),
        "Overloaded",
        "More requests, or bytes of them, are being worked on than the process has room for. Nothing was written.",
        "Send the request again after `Retry-After` seconds.",
    ),
)

PROBLEM_TYPES = {each.slug: each for each in _TYPES}
