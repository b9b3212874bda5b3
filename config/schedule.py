"""What is done when: Celery's beat goes by it."""

from typing import Any

from celery.schedules import crontab

SCHEDULE: dict[str, dict[str, Any]] = {
    "report-usage": {"task": "usage.tasks.report_usage", "schedule": 15.0, "options": {"expires": 15}},
    "settle-reports": {
        "task": "usage.tasks.settle_reports",
        "schedule": 3600.0,
        "options": {"expires": 3600},
    },
    "ensure-customers": {
        "task": "billing.tasks.ensure_customers",
        "schedule": 60.0,
        "options": {"expires": 60},
    },
    "check-trials": {"task": "billing.tasks.check_trials", "schedule": 300.0, "options": {"expires": 300}},
    "continue-price-moves": {
        "task": "billing.tasks.continue_price_moves",
        "schedule": 60.0,
        "options": {"expires": 60},
    },
    "refresh-entitlements": {"task": "billing.tasks.refresh_entitlements", "schedule": 3600.0},
    # At night for Europe and America both; what Stripe did in the day before is settled by then.
    "reconcile": {"task": "billing.tasks.reconcile_organizations", "schedule": crontab(hour=4, minute=20)},
    # After that: what it fetched of invoices is what usage is held against.
    "prove-usage": {"task": "usage.tasks.prove_usage", "schedule": crontab(hour=5, minute=20)},
    "send-corrections": {
        "task": "usage.tasks.send_corrections",
        "schedule": 300.0,
        "options": {"expires": 300},
    },
    "fetch-thin-events": {
        "task": "billing.tasks.fetch_thin_events",
        "schedule": 300.0,
        "options": {"expires": 300},
    },
    "retire-replaced": {
        "task": "billing.tasks.retire_replaced",
        "schedule": 3600.0,
        "options": {"expires": 3600},
    },
    # By the clock: counted from beat's start, a day would begin anew with every deployment.
    "purge-stripe-history": {
        "task": "billing.tasks.purge_stripe_history",
        "schedule": crontab(hour="3", minute="40"),
    },
    "refresh-due-entitlements": {
        "task": "billing.tasks.refresh_due_entitlements",
        "schedule": 30.0,
        "options": {"expires": 30},
    },
    "note-trials-ending": {"task": "billing.tasks.note_trials_ending", "schedule": 3600.0},
    "send-notices": {"task": "billing.tasks.send_notices", "schedule": 60.0, "options": {"expires": 60}},
    "send-leak-letters": {
        "task": "apikeys.tasks.send_leak_letters",
        "schedule": 60.0,
        "options": {"expires": 60},
    },
    "purge-idempotency-keys": {"task": "billing.tasks.purge_idempotency_keys", "schedule": 3600.0},
    "take-up-uncounted": {
        "task": "apikeys.tasks.take_up_uncounted",
        "schedule": 30.0,
        "options": {"expires": 30},
    },
    "bill-unsettled": {
        "task": "apikeys.tasks.bill_unsettled",
        "schedule": 30.0,
        "options": {"expires": 30},
    },
    "sum-usage-days": {"task": "usage.tasks.sum_usage_days", "schedule": 600.0, "options": {"expires": 600}},
    # Further back, for what was missed while nothing ran for longer than a day.
    "sum-usage-months": {
        "task": "usage.tasks.sum_usage_days",
        "schedule": crontab(hour=5, minute=10),
        "kwargs": {"look_back_days": 40},
    },
    "measure-counters": {
        "task": "apikeys.tasks.measure_counters",
        "schedule": 300.0,
        "options": {"expires": 300},
    },
    "drop-old-partitions": {
        "task": "usage.tasks.drop_old_partitions",
        "schedule": crontab(hour="5", minute="20"),
    },
    "make-partitions": {"task": "usage.tasks.make_partitions", "schedule": 6 * 3600.0},
}
