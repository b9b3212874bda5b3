"""Random schedules of killed processes, restarted stores and Stripe's failures, after which the bill is right."""
