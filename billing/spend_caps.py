"""A customer's spend caps: set, changed and removed, each time with the gate's limits in the same transaction."""

from dataclasses import dataclass

from django.db import transaction

from accounts import clock
from accounts.models import Organization, User
from billing.entitlements import current_entitlement, lock_entitlement, refresh_entitlement
from billing.models import Entitlement, Meter, PlanQuota, SpendCap
from billing.overage import charged_within
from billing.standing import Standing, find_standing
from billing.templatetags.money import money

# Twelve digits: more than any invoice, and within what JSON's readers take for whole.
MOST = 10**12


@dataclass(frozen=True, slots=True)
class CapState:
    """What there is to say of one meter's cap.

    `cap` is None where none is set. `is_billed` says whether units can cost anything: beyond those that the plan
    includes, or of those where the customer's price charges them all the same. `currency` is what the subscription is
    billed in, None without one. `stops_at` is the period's last unit that is let through, None where the cap stops
    nothing; `is_trial` says that it is for the trial that nothing is billed.
    """

    meter: Meter
    cap: SpendCap | None
    is_billed: bool
    included: int | None
    currency: str | None
    stops_at: int | None
    is_trial: bool = False

    @property
    def can_be_set(self) -> bool:
        return self.is_billed and self.currency is not None

    @property
    def is_in_other_currency(self) -> bool:
        return bool(self.cap and self.currency and self.cap.currency != self.currency)

    @property
    def sentence(self) -> str:
        """What the cap does, in a sentence; empty without one."""
        if self.cap is None:
            return ""
        amount = money(self.cap.amount, self.cap.currency)
        if not self.can_be_set:
            return f"{amount} a month. It waits: your plan bills nothing beyond what it includes."
        if self.is_in_other_currency:
            return (
                f"{amount} a month, while you are billed in {str(self.currency).upper()}. Until you set it anew, no "
                f"{self.meter.unit} beyond the included ones is let through."
            )
        if self.is_trial:
            return f"{amount} a month. It waits: in the trial nothing is billed."
        if self.stops_at is None:
            return f"{amount} a month. At your price no number of {self.meter.unit}s reaches it."
        return (
            f"{amount} a month, before taxes. It is reached with {self.stops_at:,} {self.meter.unit}s, the "
            "included ones counted; further ones are refused."
        )


def cap_states(organization: Organization) -> list[CapState]:
    """Return the meters that are billed beyond what is included, and those that have a cap, by slug."""
    entitlement = current_entitlement(organization)
    caps = {cap.meter_id: cap for cap in organization.spend_caps.all()}
    meters = Meter.objects.filter(slug__in=entitlement.quotas) | Meter.objects.filter(pk__in=caps)
    standing = find_standing(organization)
    states = [state_of(entitlement, meter, caps.get(meter.pk), standing) for meter in meters.distinct()]
    return [state for state in states if state.cap or state.can_be_set]


def cap_state(organization: Organization, meter: Meter) -> CapState:
    entitlement, standing = current_entitlement(organization), find_standing(organization)
    cap = organization.spend_caps.filter(meter=meter).first()
    return state_of(entitlement, meter, cap, standing)


def state_of(
    entitlement: Entitlement, meter: Meter, cap: SpendCap | None, standing: Standing | None
) -> CapState:
    quota = entitlement.quotas.get(meter.slug) or {"included": 0, "overage": PlanQuota.Overage.BLOCK}
    return CapState(
        meter=meter,
        cap=cap,
        is_billed=quota["overage"] == PlanQuota.Overage.BILL
        or charged_within(entitlement, meter) is not None,
        included=quota["included"],
        currency=standing.currency if standing else None,
        stops_at=quota.get("spend_cap"),
        is_trial=bool(entitlement.subscription_id and standing and standing.trial_ends_at),
    )


@transaction.atomic
def set_spend_cap(
    organization: Organization, meter: Meter, *, amount: int, currency: str, by: User | None = None
) -> SpendCap:
    """Let a period's units of `meter` cost at most `amount` minor units. The gate goes by it at the next call."""
    lock_entitlement(organization)  # Before the row, or the gate might fill its copy in between.
    values = {"amount": amount, "currency": currency, "changed_at": clock.now(), "changed_by": by}
    cap, _ = SpendCap.objects.update_or_create(organization=organization, meter=meter, defaults=values)
    refresh_entitlement(organization)
    return cap


@transaction.atomic
def remove_spend_cap(organization: Organization, meter: Meter) -> bool:
    """Take the cap away; return whether there was one."""
    lock_entitlement(organization)
    count, _ = organization.spend_caps.filter(meter=meter).delete()
    refresh_entitlement(organization)
    return count > 0
