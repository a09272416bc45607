"""Place an order, and look what became of its confirmation."""

from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from shop.mails import confirm
from shop.models import Order


@csrf_exempt
@require_POST
def place_order(request: HttpRequest) -> JsonResponse:
    """An order that is not committed confirms nothing."""
    try:
        with transaction.atomic():
            order = Order.objects.create(email=request.POST["email"])
            confirm(order)
            if request.POST.get("card") == "declined":
                raise ValueError("the card is declined")
    except ValueError as exc:
        return JsonResponse({"error": str(exc)}, status=402)
    return JsonResponse({"order": order.pk}, status=201)


def show_order(_request: HttpRequest, order_id: int) -> JsonResponse:
    """Where the order's mail stands, as far as Milena has told."""
    order = get_object_or_404(Order, pk=order_id)
    return JsonResponse({"order": order.pk, "mail_id": order.mail_id, "mail_status": order.mail_status})
