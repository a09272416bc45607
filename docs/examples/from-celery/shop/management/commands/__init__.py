"""`manage.py send_reminder`."""
