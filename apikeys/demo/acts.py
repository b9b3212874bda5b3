"""The acts of the demo's customers, each by the way it takes in the product: what a page or Stripe would call."""

from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from allauth.account.models import EmailAddress
from django.conf import settings

from accounts.models import Membership, Organization, Role, User
from apikeys.demo import desk
from apikeys.demo.cast import Company
from apikeys.demo.errors import DemoError
from apikeys.demo.world import World
from apikeys.models import APIKey
from billing.entitlements import refresh_entitlement
from billing.models import Plan
from billing.stripe import ending
from billing.stripe.changing import change_plan
from billing.stripe.checkout import complete_checkout, start_checkout
from billing.stripe.previewing import preview_change

CARD = "4242424242424242"
DECLINED = "4000000000000002"
GOOD_CARD = "pm_card_visa"
FAILING_CARD = "pm_card_chargeCustomerFail"
PEOPLE = ("Ann Weber", "Ben Okafor", "Chloe Martin", "Dev Rao", "Elif Demir", "Finn Larsen", "Grace Kim")


@dataclass
class Life:
    """One company from its sign-up on. `secrets` are its keys in use, the first one the busiest."""

    company: Company
    seed: int
    password: str  # As stored: hashing thirty of them would take as long as a tenth of the play.
    organization: Organization | None = None
    keys: list[APIKey] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)

    def get_organization(self) -> Organization:
        if self.organization is None:
            raise LookupError(f"{self.company.name} has not signed up.")
        return self.organization


def sign_up(life: Life, world: World, argument: str) -> None:
    owner = make_user(life, life.company.owner)
    life.organization = Organization.objects.open(name=life.company.name, owner=owner)
    life.organization.time_zone = life.company.time_zone
    life.organization.save(update_fields=["time_zone"])
    issue_key(life, world, "production")


def make_user(life: Life, email: str) -> User:
    user: User = User.objects.create_user(email, name=life.company.random(life.seed, email).choice(PEOPLE))
    user.password = life.password
    user.save(update_fields=["password"])
    EmailAddress.objects.create(user=user, email=email, verified=True, primary=True)
    return user


def invite(life: Life, world: World, role: str) -> None:
    organization = life.get_organization()
    user = make_user(life, f"{role}@{life.company.slug}.example")
    Membership.objects.create(organization=organization, user=user, role=Role(role))


def issue_key(life: Life, world: World, name: str) -> None:
    organization = life.get_organization()
    key, secret = organization.api_keys.issue(
        organization=organization, name=name, user=User.objects.get(email=life.company.owner)
    )
    life.keys.append(key)
    life.secrets.append(secret)


def revoke_key(life: Life, world: World, argument: str) -> None:
    """Replace the oldest key by a new one."""
    issue_key(life, world, "production 2")
    life.keys.pop(0).revoke()
    life.secrets.pop(0)


def subscribe(life: Life, world: World, plan: str) -> None:
    """Buy a plan on Stripe's page and come back, as the billing page has it."""
    organization = life.get_organization()
    session_id = world.pay(open_checkout(life, plan=plan), card=CARD, name=life.company.name)
    if session_id is None or not complete_checkout(organization, session_id=session_id):
        raise DemoError(f"{organization} could not pay for {plan} with a card that always works.")
    refresh_entitlement(organization)


def subscribe_declined(life: Life, world: World, plan: str) -> None:
    if world.pay(open_checkout(life, plan=plan), card=DECLINED, name=life.company.name) is not None:
        raise DemoError(f"{life.company.name} paid with a card that is always declined.")


def open_checkout(life: Life, *, plan: str) -> str:
    site = settings.FRONTEND_URL
    # The same attempt for the declined card and the good one: it is the same page, tried twice.
    attempt = UUID(int=life.company.random(life.seed, "checkout", plan).getrandbits(128), version=4)
    return start_checkout(
        life.get_organization(),
        plan=Plan.objects.get(slug=plan),
        attempt=str(attempt),
        success_url=f"{site}/dashboard/billing/return/?session_id={{CHECKOUT_SESSION_ID}}",
        cancel_url=f"{site}/dashboard/billing/",
    )


def upgrade(life: Life, world: World, plan: str) -> None:
    """Move to another plan at once, having seen what it costs."""
    organization, wanted = life.get_organization(), Plan.objects.get(slug=plan)
    preview = preview_change(organization, plan=wanted)
    outcome = change_plan(organization, plan=wanted, token=preview.token)
    if outcome.state != "done":
        raise DemoError(f"{organization} could not pay for {plan} with a card that always works.")


def card_fails(life: Life, world: World, argument: str) -> None:
    desk.replace_card(life.get_organization(), card=FAILING_CARD)


def mend_card(life: Life, world: World, when: str) -> None:
    """Put a good card in. With `pay` the open invoice is paid with it, else Stripe's next try does that."""
    desk.replace_card(life.get_organization(), card=GOOD_CARD, pay_now=when == "pay")


def cancel_at_period_end(life: Life, world: World, argument: str) -> None:
    ending.cancel_at_period_end(life.get_organization())


def cancel_now(life: Life, world: World, argument: str) -> None:
    ending.cancel_now(life.get_organization())


def use_code(life: Life, world: World, code: str) -> None:
    desk.give_discount(life.get_organization(), code=code)


Do = Callable[[Life, World, str], None]
ACTS: dict[str, Do] = {
    do.__name__: do
    for do in (
        sign_up,
        invite,
        issue_key,
        revoke_key,
        subscribe,
        subscribe_declined,
        upgrade,
        card_fails,
        mend_card,
        cancel_at_period_end,
        cancel_now,
        use_code,
    )
}
