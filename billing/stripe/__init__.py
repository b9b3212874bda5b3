"""Every call to Stripe. Nothing outside this package imports Stripe's library to make one."""
