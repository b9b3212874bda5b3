import django.db.models.deletion
from django.db import migrations, models

IS_NET = "Its period's discounts are off already. No: made before, and discounted anew."


class Migration(migrations.Migration):
    dependencies = [
        ("usage", "0006_day_totals"),
    ]

    operations = [
        migrations.AddField(
            model_name="correction",
            name="stripe_customer_id",
            field=models.CharField(
                blank=True,
                help_text="Stripe's id of whose invoice it was put on, or may have been.",
                max_length=255,
            ),
        ),
        migrations.AddField(
            model_name="correction",
            name="asked_at",
            field=models.DateTimeField(
                blank=True, help_text="When Stripe was last asked what became of the item.", null=True
            ),
        ),
        migrations.AddField(
            model_name="correction",
            name="billed_at",
            field=models.DateTimeField(
                blank=True, help_text="When the item was known to be on a paid invoice.", null=True
            ),
        ),
        migrations.AddField(
            model_name="correction",
            name="round",
            field=models.PositiveIntegerField(
                default=0,
                help_text="How often what Stripe had of it came to nothing: what is made anew is told apart by it.",
            ),
        ),
        migrations.AlterField(
            model_name="correction",
            name="state",
            field=models.CharField(
                choices=[
                    ("pending", "Pending"),
                    ("sending", "Sending"),
                    ("sent", "On the next invoice"),
                    ("free", "Settled: costs nothing"),
                    ("unknown", "Unknown: Stripe gave no answer"),
                    ("failed", "Failed: on no invoice"),
                ],
                default="pending",
                max_length=10,
            ),
        ),
        # Those that are there cost what the price says: their invoices take the discounts off.
        migrations.AddField(
            model_name="correction",
            name="is_net",
            field=models.BooleanField(default=False, help_text=IS_NET),
        ),
        migrations.AlterField(
            model_name="correction",
            name="is_net",
            field=models.BooleanField(default=True, help_text=IS_NET),
        ),
        migrations.CreateModel(
            name="DroppedUnits",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("organization_id", models.UUIDField()),
                ("meter", models.CharField(max_length=40)),
                ("period_start", models.DateTimeField()),
                ("units", models.BigIntegerField()),
                (
                    "month",
                    models.ForeignKey(
                        db_column="month",
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="periods",
                        to="usage.droppedmonth",
                    ),
                ),
            ],
            options={
                "db_table": "usage_dropped_units",
                "constraints": [
                    models.UniqueConstraint(
                        fields=["organization_id", "meter", "period_start", "month"],
                        name="droppedunits_unique",
                    )
                ],
            },
        ),
    ]
