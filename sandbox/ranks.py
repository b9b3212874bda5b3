"""In which order the agenda's entries of one second are done: Stripe's, as far as it tells."""

TRIAL_WILL_END = 10
SCHEDULE = 20
TRIAL_END = 30
PERIOD_END = 40
FINALIZE = 50
RETRY = 60
CANCEL = 70
EXPIRY = 80
METER_REPORT = 90
