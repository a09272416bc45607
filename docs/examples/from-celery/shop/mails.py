"""What was tasks.py: the functions that send. None of them runs in a worker; Milena is the worker."""

from django.db import transaction

from milena.django import send_mail
from shop.models import Order


def confirm(order: Order) -> None:
    """Send the confirmation when the order is committed; the id of its mail is known then."""
    handle = send_mail.delay(
        f"Your order {order.pk}",
        "Thank you for your order.\n",
        None,
        [order.email],
        html_message="<p>Thank you for your <strong>order</strong>.</p>",
        tags=["order"],
        metadata={"order": order.pk},
    )
    transaction.on_commit(lambda: Order.objects.filter(pk=order.pk).update(mail_id=handle.id))
