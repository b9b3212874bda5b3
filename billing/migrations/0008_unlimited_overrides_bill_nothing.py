from django.db import migrations, models

# Nothing is beyond unlimited units: so nobody is billed less, or refused more, than before.
UNLIMITED_BLOCK = "UPDATE billing_quotaoverride SET overage = 'block' WHERE included IS NULL AND overage = 'bill'"


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0007_usage_alerts_and_periods"),
    ]

    operations = [
        migrations.RunSQL(UNLIMITED_BLOCK, migrations.RunSQL.noop),
        migrations.AddConstraint(
            model_name="quotaoverride",
            constraint=models.CheckConstraint(
                condition=models.Q(("included__isnull", True), ("overage", "bill"), _negated=True),
                name="quotaoverride_unlimited_bills_nothing",
                violation_error_message="Unlimited units leave nothing to bill: say how many are included.",
            ),
        ),
    ]
