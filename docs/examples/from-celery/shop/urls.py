"""The example's addresses."""

from django.urls import path

from milena.django import milena_webhook
from shop.views import place_order, show_order

urlpatterns = [
    path("orders/", place_order),
    path("orders/<int:order_id>/", show_order),
    path("milena/", milena_webhook),
]
