"""Setup attempts: each try of a card on a setup intent."""

from sandbox.params import ID, RANGE
from sandbox.render import expandable
from sandbox.routing import Call, lists
from sandbox.store import Object

expandable(
    "setup_attempt",
    {
        "application": "application",
        "customer": "customer",
        "on_behalf_of": "account",
        "payment_method": "payment_method",
        "setup_intent": "setup_intent",
    },
)


@lists("/v1/setup_attempts", {"created": RANGE, "setup_intent!": ID})
def index(call: Call) -> Object:
    identifier = call.params["setup_intent"]
    intent = call.state.get("setup_intent", identifier, noun="setupintent", param="setup_intent", status=400)
    return call.page(
        [each for each in call.state.newest("setup_attempt") if each["setup_intent"] == intent["id"]]
    )
