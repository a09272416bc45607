"""The scheduler's HTTP API: what waits for its time."""

from fastapi import FastAPI

from services.scheduler.scheduled import setup_scheduled
from services.scheduler.settings import ApiSettings
from shared.applications import create_database_api

PREFIXES = ("/v1/scheduled",)


def create_api(settings: ApiSettings) -> FastAPI:
    """The application; its lifespan closes the database."""
    api = create_database_api("scheduler", settings, settings.database_url.get_secret_value())
    setup_scheduled(api)
    return api.app
