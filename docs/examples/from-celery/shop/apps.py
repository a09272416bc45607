"""Connects the receivers."""

from django.apps import AppConfig


class ShopConfig(AppConfig):
    """The example's one application."""

    name = "shop"

    def ready(self) -> None:
        """Called by Django when all applications are loaded."""
        import shop.receivers  # noqa: F401
