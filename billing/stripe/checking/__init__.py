"""What our sandbox only assumes of Stripe, tried out on an account in test mode.

A probe is a question, and a function that makes what it needs through a client of Stripe's, looks what happens and
returns what it saw. The same function is run against the account and against the sandbox: where they differ, the
sandbox is wrong, and so may be what was built on it.
"""
