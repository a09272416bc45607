"""Settings of the example. What was Celery's is gone; what is Milena's is marked.

MILENA_URL, MILENA_API_KEY and MILENA_WEBHOOK_SECRET come from the environment, or from the stack.json of a local stack.
"""

import os
from pathlib import Path

SECRET_KEY = "an example, not a secret"  # noqa: S105
DEBUG = True
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
INSTALLED_APPS = ["milena.django", "shop"]  # Milena: for `manage.py check`
MIDDLEWARE: list[str] = []
ROOT_URLCONF = "shop.urls"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("SHOP_DATABASE", Path(__file__).parent.parent / "shop.sqlite3"),
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DEFAULT_FROM_EMAIL = "no-reply@example.com"
USE_TZ = True

EMAIL_BACKEND = "milena.django.EmailBackend"
MILENA_ON_COMMIT = True
MILENA_CALLBACK_URL = os.environ.get("SHOP_URL", "http://127.0.0.1:8100") + "/milena/"
