"""The one address of these tests."""

from django.urls import path

from milena.django import milena_webhook

urlpatterns = [path("milena/", milena_webhook)]
