"""What Django code may listen to."""

from django.dispatch import Signal

mail_event = Signal()
"""Sent for each verified request: `event` is a milena.Event. The same event may come again: know it by `event.id`.

A receiver that raises has the request answered with 500, and so tried again later.
"""
