"""Subscription schedules over the API."""

from typing import Any

from sandbox.catalog.pricing import INTERVAL
from sandbox.catalog.taxing import shown_tax_rates
from sandbox.errors import ApiError, missing_parameter
from sandbox.params import (
    BOOL,
    CURRENCY,
    ID,
    METADATA,
    RANGE,
    TIME,
    Choice,
    EmptyOr,
    Enum,
    Int,
    ListOf,
    Obj,
    OneOf,
    Str,
    Strings,
    Type,
    merge_metadata,
    unsupported,
)
from sandbox.render import computed, expandable
from sandbox.routing import Call, get, lists, post, within
from sandbox.state import Sandbox
from sandbox.store import Object
from sandbox.subscriptions.schedule_phases import phase_from, read_phases
from sandbox.subscriptions.scheduling import (
    OVER,
    announce_end,
    cancel,
    current_phase,
    enter,
    plan,
    release,
    save,
    start,
)
from sandbox.subscriptions.subscribing import ENDED, items_of, tell
from sandbox.subscriptions.subscription_params import (
    AUTOMATIC_TAX,
    DISCOUNTS,
    FLEXIBLE,
    NEW_ITEM,
    PRORATION,
    TAX_RATES,
)

expandable(
    "subscription_schedule",
    {
        "customer": "customer",
        "subscription": "subscription",
        "test_clock": "test_helpers.test_clock",
        "phases.items.price": "price",
        "phases.default_payment_method": "payment_method",
    },
)


def _shown_phases(state: Sandbox, schedule: Object) -> list[Object]:
    return [
        {
            **{name: value for name, value in phase.items() if not name.startswith("_")},
            "default_tax_rates": shown_tax_rates(state, phase["default_tax_rates"]),
            "items": [
                {**item, "tax_rates": shown_tax_rates(state, item["tax_rates"])} for item in phase["items"]
            ],
        }
        for phase in schedule["phases"]
    ]


computed("subscription_schedule", "phases", _shown_phases)

NOW_OR_TIME = OneOf(Enum("now"), TIME)


def _phase(**more: Type) -> Obj:
    return Obj(
        {
            "automatic_tax": AUTOMATIC_TAX,
            "billing_cycle_anchor": Enum("automatic", "phase_start"),
            "collection_method": Choice("charge_automatically", "send_invoice"),
            "default_payment_method": ID,
            "default_tax_rates": TAX_RATES,
            "description": EmptyOr(Str(max=500)),
            "discounts": DISCOUNTS,
            "duration": Obj({"interval!": INTERVAL, "interval_count": Int(min=1)}),
            "items!": ListOf(NEW_ITEM),
            "metadata": Strings(),
            "proration_behavior": PRORATION,
            "trial": BOOL,
            **unsupported(
                "add_invoice_items",
                "application_fee_percent",
                "billing_thresholds",
                "invoice_settings",
                "on_behalf_of",
                "transfer_data",
            ),
            **more,
        }
    )


@post(
    "/v1/subscription_schedules",
    {
        "billing_mode": FLEXIBLE,
        "customer": ID,
        "end_behavior": Enum("cancel", "none", "release", "renew"),
        "from_subscription": ID,
        "metadata": METADATA,
        "phases": ListOf(_phase(currency=CURRENCY, end_date=TIME, trial_end=TIME)),
        "start_date": NOW_OR_TIME,
        **unsupported("customer_account", "default_settings"),
    },
)
def create(call: Call) -> Object:
    state, params = call.state, call.params
    if "from_subscription" in params:
        return _from_subscription(state, params)
    for name in ("customer", "phases"):
        if not params.get(name):
            raise missing_parameter(name)
    customer = state.get_customer(params["customer"])
    begin = params.get("start_date")
    if begin is None:
        raise missing_parameter("start_date")
    begin = state.now() if begin == "now" else begin
    if begin < state.now():
        raise ApiError(
            "The sandbox does not backdate schedules (Stripe does).",
            code="sandbox_unsupported",
            param="start_date",
        )
    phases = read_phases(state, params["phases"], customer=customer["id"], start=begin)
    schedule = _new(state, params, customer=customer["id"], phases=phases, test_clock=customer["test_clock"])
    state.create(schedule, event="subscription_schedule.created")
    if begin == state.now():
        before = state.render(schedule)
        start(state, schedule)
        save(state, schedule, before=before)
    else:
        plan(state, schedule)
    return schedule


def _end_behavior(params: dict[str, Any]) -> str:
    chosen = str(params.get("end_behavior", "release"))
    if chosen in ("none", "renew"):
        raise ApiError(
            f"The sandbox does not support end_behavior={chosen} (Stripe does).",
            code="sandbox_unsupported",
            param="end_behavior",
        )
    return chosen


def _new(
    state: Sandbox, params: dict[str, Any], *, customer: str, phases: list[Object], **fields: Any
) -> Object:
    return state.new(
        "subscription_schedule",
        **{
            "application": None,
            "billing_mode": {"flexible": {"proration_discounts": "included"}, "type": "flexible"},
            "canceled_at": None,
            "completed_at": None,
            "current_phase": None,
            "customer": customer,
            "customer_account": None,
            "default_settings": {
                "application_fee_percent": None,
                "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
                "billing_cycle_anchor": "automatic",
                "billing_thresholds": None,
                "collection_method": "charge_automatically",
                "default_payment_method": None,
                "description": None,
                "invoice_settings": {
                    "account_tax_ids": None,
                    "days_until_due": None,
                    "issuer": {"type": "self"},
                },
                "on_behalf_of": None,
                "transfer_data": None,
            },
            "end_behavior": _end_behavior(params),
            "metadata": merge_metadata({}, params.get("metadata") or {}),
            "phases": phases,
            "released_at": None,
            "released_subscription": None,
            "status": "not_started",
            "subscription": None,
            **fields,
        },
    )


def _from_subscription(state: Sandbox, params: dict[str, Any]) -> Object:
    others = sorted(set(params) - {"from_subscription", "billing_mode"})
    if others:
        raise ApiError(
            f"You cannot set `{others[0]}` if `from_subscription` is set: update the schedule afterwards.",
            param=others[0],
        )
    subscription = state.get(
        "subscription", params["from_subscription"], param="from_subscription", status=400
    )
    if subscription["status"] in (*ENDED, "incomplete"):
        raise ApiError(
            f"A schedule cannot be made from a subscription that is {subscription['status']}.",
            param="from_subscription",
        )
    if subscription["schedule"] is not None:
        raise ApiError(
            "You cannot migrate a subscription that is already attached to a schedule: "
            f"{subscription['schedule']}.",
            param="from_subscription",
        )
    phase = phase_from(state, subscription, items_of(state, subscription))
    schedule = _new(
        state,
        params,
        customer=subscription["customer"],
        phases=[phase],
        current_phase={"end_date": phase["end_date"], "start_date": phase["start_date"]},
        status="active",
        subscription=subscription["id"],
        test_clock=subscription["test_clock"],
    )
    state.create(schedule, event="subscription_schedule.created")
    subscription["schedule"] = schedule["id"]
    tell(state, subscription)
    plan(state, schedule)
    return schedule


def _get(call: Call) -> Object:
    return call.state.get("subscription_schedule", call.args["id"], noun="subscription_schedule")


@get("/v1/subscription_schedules/<id>")
def retrieve(call: Call) -> Object:
    return _get(call)


@post(
    "/v1/subscription_schedules/<id>",
    {
        "end_behavior": Enum("cancel", "none", "release", "renew"),
        "metadata": METADATA,
        "phases": ListOf(_phase(end_date=NOW_OR_TIME, start_date=NOW_OR_TIME, trial_end=NOW_OR_TIME)),
        "proration_behavior": PRORATION,
        **unsupported("default_settings"),
    },
)
def update(call: Call) -> Object:
    state, params = call.state, call.params
    schedule = _get(call)
    _check_open(schedule)
    before = state.render(schedule)
    if "end_behavior" in params:
        schedule["end_behavior"] = _end_behavior(params)
    if "metadata" in params:
        schedule["metadata"] = merge_metadata(schedule["metadata"], params["metadata"])
    if params.get("phases"):
        _replace_phases(state, schedule, params)
    state.put(schedule)
    plan(state, schedule)
    announce_end(state, schedule)
    if (subscription := state.find("subscription", schedule["subscription"] or "")) is not None:
        tell(state, subscription)
    return state.update(schedule, before=before, event="subscription_schedule.updated")


def _replace_phases(state: Sandbox, schedule: Object, params: dict[str, Any]) -> None:
    running = current_phase(state, schedule) if schedule["status"] == "active" else None
    first = schedule["phases"][0]["start_date"]
    phases = read_phases(
        state,
        params["phases"],
        customer=schedule["customer"],
        start=running["start_date"] if running else first,
    )
    now = state.now()
    if running is not None:
        if not any(each["start_date"] <= now < each["end_date"] for each in phases):
            raise ApiError(
                "The subscription schedule update is missing at least one phase with a `start_date` in the "
                "past and an `end_date` in the future: the current phase must stay.",
                param="phases",
            )
        if phases[0]["start_date"] not in [each["start_date"] for each in schedule["phases"]]:
            raise ApiError(
                "You can not modify the start date of the current phase.", param="phases[0][start_date]"
            )
    elif phases[0]["start_date"] < now:
        raise ApiError("A schedule cannot start in the past.", param="phases[0][start_date]")
    schedule["phases"] = phases
    if running is not None:
        phase = current_phase(state, schedule)
        if phase is not None:
            enter(
                state,
                schedule,
                phase,
                proration_behavior=params.get("proration_behavior", "create_prorations"),
            )


def _check_open(schedule: Object) -> None:
    if schedule["status"] in OVER:
        raise ApiError(
            f"You cannot change a subscription schedule that is in the `{schedule['status']}` status. Only "
            "those that are `not_started` or `active` can be."
        )


@post("/v1/subscription_schedules/<id>/release", {"preserve_cancel_date": BOOL})
def release_now(call: Call) -> Object:
    schedule = _get(call)
    _check_open(schedule)
    release(call.state, schedule, preserve_cancel_date=call.params.get("preserve_cancel_date", False))
    return schedule


@post("/v1/subscription_schedules/<id>/cancel", {"invoice_now": BOOL, "prorate": BOOL})
def cancel_schedule(call: Call) -> Object:
    schedule = _get(call)
    _check_open(schedule)
    # Unlike the cancelling of a subscription, this bills what is left unless told not to.
    cancel(
        call.state,
        schedule,
        invoice_now=call.params.get("invoice_now", True),
        prorate=call.params.get("prorate", True),
    )
    return schedule


@lists(
    "/v1/subscription_schedules",
    {
        "canceled_at": RANGE,
        "completed_at": RANGE,
        "created": RANGE,
        "customer": ID,
        "released_at": RANGE,
        "scheduled": BOOL,
        **unsupported("customer_account"),
    },
)
def index(call: Call) -> Object:
    params = call.params
    found = []
    for each in call.state.newest("subscription_schedule"):
        dates = ("canceled_at", "completed_at", "released_at")
        if any(
            name in params and (each[name] is None or not within(each[name], params[name])) for name in dates
        ):
            continue
        if "customer" in params and each["customer"] != params["customer"]:
            continue
        if params.get("scheduled") and each["status"] != "not_started":
            continue
        found.append(each)
    return call.page(found)
