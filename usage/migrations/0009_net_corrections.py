from django.db import migrations, models

HELP = "Its period's discounts are off already. No: made before, and discounted anew."


class Migration(migrations.Migration):
    dependencies = [
        ("usage", "0008_followed_corrections"),
    ]

    # Those that are there cost what the price says: their invoices take the discounts off.
    operations = [
        migrations.AddField(
            model_name="correction",
            name="is_net",
            field=models.BooleanField(default=False, help_text=HELP),
        ),
        migrations.AlterField(
            model_name="correction",
            name="is_net",
            field=models.BooleanField(default=True, help_text=HELP),
        ),
    ]
