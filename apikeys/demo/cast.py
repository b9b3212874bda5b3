"""Who the customers of the demo are, and what each of them does on which day."""

from dataclasses import dataclass
from random import Random

# An act is (days after signing up, what, with what); `apikeys.demo.acts` has a function for each.
Act = tuple[int, str, str]


@dataclass(frozen=True, slots=True)
class Company:
    """`joins` is when it signs up, in percent of the time played; `calls` is what it makes on a working day."""

    name: str
    time_zone: str
    joins: int
    calls: int
    acts: tuple[Act, ...] = ()

    @property
    def slug(self) -> str:
        return self.name.lower().replace(" ", "-")

    @property
    def owner(self) -> str:
        return f"owner@{self.slug}.example"

    def random(self, seed: int, *about: object) -> Random:
        """Return chance that is the same whenever it is asked for with the same seed about the same thing."""
        return Random(":".join(map(str, (seed, self.slug, *about))))  # noqa: S311  # Nothing secret hangs on it.


COMPANIES = (
    Company("Northwind Labs", "Europe/Berlin", 0, 54, (
        (0, "subscribe", "pro"), (2, "invite", "developer"), (33, "upgrade", "team"), (50, "issue_key", "staging"),
    )),
    Company("Harbor Logistics", "Europe/Amsterdam", 0, 78, (
        (0, "subscribe", "team"), (1, "invite", "developer"), (1, "invite", "billing"),
    )),
    Company("Meridian Bank", "Europe/London", 1, 110, ((1, "subscribe", "enterprise"), (3, "invite", "admin"))),
    Company("Tiny Parcels", "Europe/Lisbon", 1, 4),
    Company("Cobalt Games", "America/Los_Angeles", 2, 44, (
        # Its card stops working, is tried in vain for weeks, and the subscription ends.
        (0, "subscribe", "pro"), (20, "card_fails", ""),
    )),
    Company("Juniper Health", "America/New_York", 3, 38, (
        # Its card stops working too, but somebody reads the mail.
        (0, "subscribe", "pro"), (22, "card_fails", ""), (35, "mend_card", "pay"),
    )),
    Company("Sundial Media", "America/Chicago", 4, 30, ((2, "subscribe", "pro"), (25, "cancel_at_period_end", ""))),
    Company("Quarry Analytics", "Asia/Tokyo", 5, 66, ((0, "subscribe", "team"), (40, "use_code", "LAUNCH20"))),
    Company("Pocket Weather", "Australia/Sydney", 6, 9),
    Company("Atlas Robotics", "Asia/Singapore", 8, 115, ((1, "subscribe", "enterprise"), (2, "invite", "developer"))),
    Company("Lantern Books", "Europe/Dublin", 10, 5),
    Company("Fable Studio", "Europe/Paris", 12, 26, ((0, "subscribe_declined", "pro"), (0, "subscribe", "pro"))),
    Company("Orchard Foods", "Europe/Rome", 14, 33, (
        (1, "subscribe", "pro"), (20, "card_fails", ""), (32, "mend_card", "wait"),
    )),
    Company("Beacon Travel", "Europe/Madrid", 16, 40, ((0, "subscribe", "team"), (24, "cancel_now", ""))),
    Company("Kite Surveys", "Africa/Nairobi", 18, 6),
    Company("Granite Legal", "America/Toronto", 20, 24, ((3, "subscribe", "pro"), (30, "revoke_key", ""))),
    Company("Saffron Kitchen", "Asia/Kolkata", 24, 28, ((0, "subscribe", "pro"), (27, "upgrade", "team"))),
    Company("Ferry Tickets", "Europe/Athens", 28, 7),
    Company("Nimbus Backup", "Europe/Warsaw", 32, 58, (
        (0, "subscribe", "team"), (35, "upgrade", "enterprise"), (36, "issue_key", "backup"),
    )),
    Company("Paper Trails", "America/Sao_Paulo", 36, 30, ((0, "subscribe", "pro"),)),
    Company("Copper Energy", "Europe/Oslo", 40, 48, (
        (0, "subscribe", "team"), (21, "card_fails", ""), (36, "mend_card", "wait"),
    )),
    Company("Maple Clinic", "America/Vancouver", 45, 5),
    Company("Vector Maps", "Europe/Zurich", 50, 70, ((1, "subscribe", "team"), (1, "invite", "developer"))),
    Company("Tidewater Sports", "America/Denver", 55, 28, ((0, "subscribe", "pro"), (20, "card_fails", ""))),
    Company("Hearth Rentals", "Europe/Vienna", 62, 8, ((14, "subscribe", "pro"),)),
    Company("Ember Security", "Asia/Jerusalem", 68, 105, ((0, "subscribe", "enterprise"),)),
    Company("Willow School", "Pacific/Auckland", 75, 6),
    Company("Signal Radio", "America/Mexico_City", 82, 34, ((0, "subscribe", "pro"), (9, "cancel_at_period_end", ""))),
    Company("Brook Farms", "Europe/Helsinki", 90, 3),
    Company("Zephyr Drones", "Asia/Seoul", 95, 22, ((1, "subscribe", "pro"),)),
)  # fmt: skip
