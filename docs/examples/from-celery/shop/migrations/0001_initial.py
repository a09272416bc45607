"""The one table."""

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    dependencies: list[tuple[str, str]] = []
    operations = [
        migrations.CreateModel(
            name="Order",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("email", models.EmailField(max_length=254)),
                ("mail_id", models.CharField(blank=True, max_length=36)),
                ("mail_status", models.CharField(default="queued", max_length=20)),
            ],
        )
    ]
