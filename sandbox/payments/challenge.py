"""What a card that asks for 3-D Secure leaves its holder to do, and where."""

from typing import Any
from urllib.parse import urlencode

from sandbox.ids import random_text
from sandbox.state import Sandbox
from sandbox.store import Object


def page_url(state: Sandbox, intent: Object) -> str:
    """Return the address of the page where the holder passes or fails the challenge of an intent."""
    query = urlencode({"client_secret": intent["client_secret"]})
    return f"{state.base_url}/3ds/{intent['id']}?{query}"


def next_action(state: Sandbox, intent: Object) -> dict[str, Any]:
    """Return an intent's next_action: a redirect where it has an address to return to, else Stripe.js's part.

    Stripe.js opens `use_stripe_sdk.stripe_js`, which here is the same page.
    """
    url = page_url(state, intent)
    if intent["_return_url"] is not None and not intent["_use_stripe_sdk"]:
        return {
            "redirect_to_url": {"return_url": intent["_return_url"], "url": url},
            "type": "redirect_to_url",
        }
    return {
        "type": "use_stripe_sdk",
        "use_stripe_sdk": {
            "source": f"src_1{random_text(23)}",
            "stripe_js": url,
            "type": "three_d_secure_redirect",
        },
    }
