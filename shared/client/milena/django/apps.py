"""`INSTALLED_APPS = [..., "milena.django"]`: only for the checks; everything else works without."""

from django.apps import AppConfig
from django.core.checks import register


class MilenaConfig(AppConfig):
    """Registers the checks."""

    name = "milena.django"
    label = "milena"
    verbose_name = "Milena"

    def ready(self) -> None:
        """Called by Django when all applications are loaded."""
        from milena.django.checks import check_settings

        register(check_settings)
