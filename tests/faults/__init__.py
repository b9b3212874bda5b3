"""Random schedules of killed processes, restarted stores and Stripe's failures, at the end of which the bill is right."""
