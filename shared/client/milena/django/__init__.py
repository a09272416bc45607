"""Milena for Django: a mail backend, `send_mail.delay`, and what becomes of mail as a signal.

EMAIL_BACKEND = "milena.django.EmailBackend"
MILENA_URL, MILENA_API_KEY = "https://mail.example.com", env("MILENA_API_KEY")  # or as environment variables
MILENA_ON_COMMIT = True                                                       # or the alias of a database
MILENA_WEBHOOK_SECRET = env("MILENA_WEBHOOK_SECRET")
INSTALLED_APPS += ["milena.django"]                                           # for checks of these settings

urlpatterns += [path("milena/", milena_webhook)]
"""

from milena.django.backend import EmailBackend
from milena.django.composing import UnsupportedFeature
from milena.django.handles import NotSent
from milena.django.sending import send_mail
from milena.django.signals import mail_event
from milena.django.webhooks import milena_webhook

__all__ = ["EmailBackend", "NotSent", "UnsupportedFeature", "mail_event", "milena_webhook", "send_mail"]
