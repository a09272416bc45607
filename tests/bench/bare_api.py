"""The yardstick of accepting: what FastAPI, pydantic and aiokafka (`acks=all`) cost by themselves.

No key, no rules on content, no event contract, no bound on waiting: a model is read and written to Kafka.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

from aiokafka import AIOKafkaProducer
from fastapi import FastAPI
from pydantic import BaseModel, Field

from shared.serving import serve
from shared.settings import HttpSettings, KafkaSettings, ProcessSettings, load_settings
from shared.topics import Topics


class BareSettings(ProcessSettings, KafkaSettings, HttpSettings):
    """Those of the gateway that it needs."""


class Mail(BaseModel):
    """The fields of the posted mail."""

    from_: str = Field(alias="from")
    to: list[str]
    subject: str
    text: str | None = None
    html: str | None = None


def create_bare_api(settings: BareSettings) -> FastAPI:
    """The application, in the shape FastAPI's documentation teaches."""
    producers: list[AIOKafkaProducer] = []

    @asynccontextmanager
    async def live(_app: FastAPI) -> AsyncIterator[None]:
        producer = AIOKafkaProducer(**settings.kafka.options(), acks="all")
        await producer.start()
        producers.append(producer)
        yield
        await producer.stop()

    app = FastAPI(lifespan=live)
    topic = Topics(settings.topic_prefix).requested

    @app.post("/v1/emails", status_code=202)
    async def send(mail: Mail) -> dict[str, str]:
        email_id = str(uuid4())
        await producers[0].send_and_wait(topic, mail.model_dump_json(by_alias=True).encode(), key=email_id.encode())
        return {"id": email_id, "status": "queued"}

    @app.get("/readyz")
    async def readyz() -> dict[str, str]:
        return {}

    return app


if __name__ == "__main__":
    chosen = load_settings(BareSettings)
    serve(create_bare_api(chosen), chosen)
