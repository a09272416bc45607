"""An order, and what has become of its confirmation."""

from django.db import models


class Order(models.Model):
    """`mail_id` is Milena's id of the confirmation, where a task's id was kept before."""

    email = models.EmailField()
    mail_id = models.CharField(max_length=36, blank=True)
    mail_status = models.CharField(max_length=20, default="queued")
