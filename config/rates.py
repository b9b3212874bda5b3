"""How often each page and endpoint may be called in a minute, by one address or one person. All of it is here,
but for what views of the API count themselves: the numbers of that are in `accounts/limits.py`.

An endpoint that anybody can call and that is in neither table fails a test. Calls of your own API with a key are
the gate's and are not counted here: its callers are known by their key, wherever they call from.
"""

from typing import Literal, NamedTuple


class Rate(NamedTuple):
    """Requests a minute; `sends` are those among them that send something (a form, a code, a password).

    By address: the client's own, an IPv6 one with its /64, which one customer of a provider has to themselves.
    By user: of whoever is signed in.
    """

    requests: int
    sends: int | None = None
    by: Literal["address", "user"] = "address"


PAGE = 240  # A whole office may sit behind one address.

# By the name of the view, as `request.resolver_match.view_name` has it.
RATES: dict[str, Rate] = {
    # Open to everybody.
    "home": Rate(PAGE),
    "pricing": Rate(PAGE),
    "favicon": Rate(PAGE),
    "schema": Rate(30),  # Made anew for each caller, in about a second.
    "api-docs": Rate(60),
    "docs": Rate(60),
    "api-plans": Rate(60),
    "apikeys.api.echo.NoSuchEndpoint": Rate(120),
    "readyz": Rate(600),  # Two queries. Several load balancers may ask every second.
    # Guessing: of passwords, codes and which addresses have an account. allauth counts beside it, by account too.
    "account_signup": Rate(60, sends=10),
    "account_login": Rate(60, sends=10),
    "account_logout": Rate(60),
    "account_inactive": Rate(60),
    "account_confirm_login_code": Rate(60, sends=10),
    "account_email_verification_sent": Rate(60, sends=10),  # Entering the code, and having another one sent.
    "account_reset_password": Rate(60, sends=5),
    "account_reset_password_done": Rate(60),
    "account_reset_password_from_key": Rate(30, sends=10),
    "account_reset_password_from_key_done": Rate(60),
    "admin:login": Rate(60, sends=10),
    "leaked-key": Rate(60, sends=10),
    # Of people who are signed in: what makes something, or calls Stripe.
    "account_email": Rate(60, sends=10, by="user"),
    "account_change_password": Rate(60, sends=10, by="user"),
    "account_set_password": Rate(60, sends=10, by="user"),
    "account_reauthenticate": Rate(60, sends=10, by="user"),
    "keys": Rate(120, sends=20, by="user"),
    "first-key": Rate(120, sends=20, by="user"),
    "key": Rate(120, sends=30, by="user"),
    "key-rotate": Rate(60, sends=20, by="user"),
    "key-extend": Rate(60, sends=30, by="user"),
    "key-revoke": Rate(60, by="user"),
    "checkout": Rate(20, by="user"),
    "checkout-return": Rate(60, by="user"),
    "billing-change": Rate(30, by="user"),
    "billing-undo": Rate(20, by="user"),
    "billing-cancel": Rate(30, by="user"),
    "billing-resume": Rate(20, by="user"),
    "billing-portal": Rate(20, by="user"),
    "portal-return": Rate(60, by="user"),
    "spend-cap": Rate(60, sends=30, by="user"),
    "spend-cap-remove": Rate(30, by="user"),
}

# Open to everybody, and not counted here: each with its reason.
UNCOUNTED: dict[str, str] = {
    "healthz": "It touches nothing, and whoever runs the process kills it where it gets no answer.",
    "stripe-webhook": "What Stripe signed is never refused, however much comes; forgeries are counted by the view.",
    "stripe-thin": "As the webhook.",
}
