"""docs/asyncapi.yaml: the topics and their events as AsyncAPI 3, made from the models.

`python -m shared.events.asyncapi [--check]`. The payloads are the JSON Schemas beside it (shared/events/schemas.py).
"""

import sys
from typing import Any

import yaml

from shared.events.schemas import MODELS
from shared.events.wire import CONTENT_TYPE, SPEC_VERSION, EventType, belongs_on
from shared.generated_pages import DOCS, keep_page
from shared.topics import TopicPlan, Topics

PAGE = DOCS / "asyncapi.yaml"
_TOPICS = Topics()
_WORDS = {
    _TOPICS.requested: "Mails to be sent, one or many with one content, and wishes to cancel; the scheduler tells here"
    " that one will leave at another time. Anyone may publish here whom Kafka's ACLs let; no key, no header and no"
    " library of ours is needed.",
    _TOPICS.sent: "The relay has accepted the mail for these recipients. Written by senders only, uncompressed.",
    _TOPICS.failed: "Recipients who did not get the mail: for now (`final: false`) or for good. Uncompressed.",
    _TOPICS.tick: "What the scheduler says: a task has fallen due, a batch or a mailing has come to its end.",
}
_KEYS = {
    EventType.REQUESTED: "the email id, or none",
    EventType.BULK_REQUESTED: "the bulk id, or none",
    EventType.FAILED: "the email id, or none where the event could not be read",
    EventType.TICK: "the task id",
    EventType.BATCH_FINISHED: "the batch id",
    EventType.MAILING_FINISHED: "the mailing id",
}
_SUMMARIES = {
    EventType.REQUESTED: "Send this mail",
    EventType.BULK_REQUESTED: "Send one content to many, each a mail of its own",
    EventType.CANCELLATION_REQUESTED: "Do not send this mail, if it still waits",
    EventType.RESCHEDULED: "The mail, which still waits, will leave at another time",
    EventType.SENT: "The relay accepted the mail for these recipients",
    EventType.FAILED: "The mail was not sent to these recipients, for now or for good",
    EventType.TICK: "An occurrence of a task has fallen due",
    EventType.BATCH_FINISHED: "Every mail of a batch has its end",
    EventType.MAILING_FINISHED: "Every mail of a mailing has its end",
}
_RECEIVED = (_TOPICS.requested,)


def build_document() -> dict[str, Any]:
    """The document, with addresses as they are without a topic prefix."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Milena",
            "version": "0.1.0",
            "description": "Asynchronous email delivery over four Kafka topics. The contract in words: events.md.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": CONTENT_TYPE,
        "servers": {
            "local": {
                "host": "127.0.0.1:19092",
                "protocol": "kafka",
                "description": "The embedded broker of `make up`.",
            }
        },
        "channels": {topic: _describe_channel(topic) for topic in _TOPICS.all()},
        "operations": {_name_operation(topic): _describe_operation(topic) for topic in _TOPICS.all()},
        "components": {
            "messages": {each.value: _describe_message(each) for each in MODELS},
            "messageTraits": {"cloudEvent": _describe_trait()},
        },
    }


def render() -> str:
    """The file's content."""
    head = "# Made from shared/events by `make docs`.\n"
    return head + yaml.safe_dump(build_document(), sort_keys=False, allow_unicode=True, width=110)


def _types_on(topic: str) -> list[EventType]:
    return [each for each in MODELS if belongs_on(each, topic)]


def _name_operation(topic: str) -> str:
    return f"{'receive' if topic in _RECEIVED else 'send'}.{topic}"


def _describe_channel(topic: str) -> dict[str, Any]:
    plan = TopicPlan()
    kafka = {"topic": topic, "partitions": plan.partitions, "topicConfiguration": {}, "bindingVersion": "0.5.0"}
    kafka["topicConfiguration"] = {
        "cleanup.policy": ["delete"],
        "retention.ms": int(plan.config()["retention.ms"]),
        "max.message.bytes": int(plan.config()["max.message.bytes"]),
    }
    return {
        "address": topic,
        "description": _WORDS[topic],
        "messages": {each.value: {"$ref": f"#/components/messages/{each.value}"} for each in _types_on(topic)},
        "bindings": {"kafka": kafka},
    }


def _describe_operation(topic: str) -> dict[str, Any]:
    received = topic in _RECEIVED
    return {
        "action": "receive" if received else "send",
        "channel": {"$ref": f"#/channels/{topic}"},
        "summary": "Milena takes mail" if received else "Milena says what became of it",
        "messages": [{"$ref": f"#/channels/{topic}/messages/{each.value}"} for each in _types_on(topic)],
    }


def _describe_message(event_type: EventType) -> dict[str, Any]:
    key = {"type": "string", "description": _KEYS.get(event_type, "the email id")}
    return {
        "name": event_type.value,
        "summary": _SUMMARIES[event_type],
        "contentType": CONTENT_TYPE,
        "traits": [{"$ref": "#/components/messageTraits/cloudEvent"}],
        "payload": {"$ref": f"./schemas/{event_type.value}.json"},
        "bindings": {"kafka": {"key": key, "bindingVersion": "0.5.0"}},
    }


def _describe_trait() -> dict[str, Any]:
    """CloudEvents 1.0, Kafka binding, binary mode. Publishers may leave all of it out."""
    text = {"type": "string"}
    types = [each.value for each in MODELS]
    properties = {
        "ce_specversion": {"const": SPEC_VERSION},
        "ce_id": {**text, "description": "the event's identity: a re-emitted event has the same"},
        "ce_type": {"enum": types, "description": "decides what the value is; absent, the value's fields do"},
        "ce_source": text,
        "ce_time": {**text, "format": "date-time"},
        "content-type": {"const": CONTENT_TYPE},
        "traceparent": {**text, "description": "W3C Trace Context"},
    }
    return {"headers": {"type": "object", "properties": properties}}


if __name__ == "__main__":
    sys.exit(keep_page(PAGE, render, sys.argv[1:]))
