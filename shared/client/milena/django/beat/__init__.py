"""From django_celery_beat's rows to Milena's tasks."""
