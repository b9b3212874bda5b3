"""Subscription items, read-only: they change through their subscription."""

from sandbox.params import ID
from sandbox.render import expandable, inlined
from sandbox.routing import Call, get, lists
from sandbox.store import Object
from sandbox.subscribing import items_of

inlined("subscription_item", {"price": "price"})
expandable("subscription_item", {"discounts": "discount"})


@get("/v1/subscription_items/<id>")
def retrieve(call: Call) -> Object:
    return call.state.get("subscription_item", call.args["id"], noun="subscription_item", param="item")


@lists("/v1/subscription_items", {"subscription!": ID})
def index(call: Call) -> Object:
    subscription = call.state.get("subscription", call.params["subscription"], param="subscription")
    return call.page(items_of(call.state, subscription)[::-1])
