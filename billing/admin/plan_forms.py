"""The plan's page as forms: each checks its own rows, and the overage prices check that all of it fits together."""

from typing import Any, ClassVar

from django import forms
from unfold.forms import PaginationInlineFormSet

from billing.admin.tiers import TiersField
from billing.models import PlanPrice
from billing.plan_rules import Overage, Quota, overage_faults, quota_faults


class PlanFormSet(PaginationInlineFormSet):
    """Of a plan's page. `siblings` are all formsets of the page by their class."""

    # What two rows may not have in common, and the sentence where they do.
    one_each: ClassVar[tuple[str, ...]] = ()
    twice: ClassVar[str] = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.siblings: dict[type[PlanFormSet], PlanFormSet] = {}

    def kept(self) -> list[dict[str, Any]]:
        """Return the cleaned rows that will be there after saving."""
        return [
            form.cleaned_data
            for form in self.forms
            if form.is_valid() and form.cleaned_data and not self._should_delete_form(form)
        ]

    def clean(self) -> None:
        seen = set()
        for row in self.kept():
            mark = tuple(row.get(name) for name in self.one_each)
            if mark in seen:
                raise forms.ValidationError(self.twice.format(**row))
            seen.add(mark)
        super().clean()

    def sibling(self, kind: "type[PlanFormSet]") -> "list[dict[str, Any]] | None":
        """Return the rows of another formset of the page, None where they have faults of their own."""
        found = self.siblings.get(kind)
        if found is None:
            return []
        return found.kept() if found.is_valid() else None


class QuotaForm(forms.ModelForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["meter"].error_messages["required"] = "Choose what is counted: a quota needs a meter."


class QuotaFormSet(PlanFormSet):
    one_each = ("meter",)
    twice = "There are two quotas of {meter}: leave one."

    def clean(self) -> None:
        super().clean()
        fees = self.sibling(FeeFormSet)
        if fees is not None and not any(self.errors):
            faults = quota_faults(quotas_in(self.kept()), is_sold=bool(fees))
            if faults:
                raise forms.ValidationError(faults)


class PriceForm(forms.ModelForm):
    """A price keeps what it is known by once Stripe has it: another interval or currency is another price."""

    FIXED: ClassVar[tuple[str, ...]] = ("meter", "interval", "currency", "lookup_key")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.stripe_price_id:
            for name in self.FIXED:
                if name in self.fields:
                    self.fields[name].disabled = True

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if not self.errors and not cleaned.get("lookup_key"):
            self._check_own_key(cleaned)
        return cleaned

    def save(self, commit: bool = True) -> Any:
        if self.errors or not commit or not self.instance.pk:
            return super().save(commit)
        # What Stripe has of the price may have been noted since this page was read: write what staff changed.
        columns = {column.name for column in self.instance._meta.concrete_fields}
        self.instance.save(update_fields=sorted(columns & set(self.changed_data)))
        self._save_m2m()  # type: ignore[attr-defined]
        return self.instance

    def _check_own_key(self, cleaned: dict[str, Any]) -> None:
        """Refuse to make up a lookup key that a price of another kind has been given."""
        row = PlanPrice(
            plan=cleaned["plan"],
            meter=cleaned.get("meter"),
            interval=cleaned.get("interval", PlanPrice.Interval.MONTH),
            currency=cleaned["currency"],
        )
        key = row.own_lookup_key()
        kind = {"meter": row.meter, "interval": row.interval, "currency": row.currency}
        others = PlanPrice.objects.filter(lookup_key=key).exclude(pk=self.instance.pk)
        if others.exclude(plan=row.plan.pk, **kind).exists():
            self.add_error("lookup_key", f"Another price has the lookup key {key}: type one for this price.")


class FeeForm(PriceForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["unit_amount"].label = "Amount"
        self.fields["unit_amount"].help_text = "In the currency's minor unit: 2900 is $29.00."
        if not self.instance.pk:
            # A row that was left as it came is no fee: one of 0 has to be said.
            self.initial["unit_amount"] = None


class FeeFormSet(PlanFormSet):
    one_each = ("interval", "currency")
    twice = "There are two fees for a {interval} in {currency}: leave one."

    @classmethod
    def get_default_prefix(cls) -> str:
        return "fees"


class OverageForm(PriceForm):
    tiers = TiersField()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        meter: Any = self.fields["meter"]
        meter.required = True
        meter.error_messages["required"] = "Choose what is counted: an overage price needs a meter."
        if self.instance.pk:
            rows = self.instance.tiers.all()
            self.initial["tiers"] = [(tier.up_to, tier.unit_amount) for tier in rows]

    def _save_m2m(self) -> None:
        super()._save_m2m()  # type: ignore[misc]
        if "tiers" in self.changed_data:
            self.instance.set_tiers(self.cleaned_data["tiers"])


class OverageFormSet(PlanFormSet):
    one_each = ("meter", "currency")
    twice = "There are two overage prices of {meter} in {currency}: leave one."

    @classmethod
    def get_default_prefix(cls) -> str:
        return "overages"

    def clean(self) -> None:
        super().clean()
        quotas, fees = self.sibling(QuotaFormSet), self.sibling(FeeFormSet)
        if quotas is None or fees is None or any(self.errors):
            return
        keys = [row["lookup_key"] for row in [*fees, *self.kept()] if row["lookup_key"]]
        for key in keys:
            if keys.count(key) > 1:
                raise forms.ValidationError(f"Two prices have the lookup key {key}: give them one each.")
        overages = [Overage(row["meter"], row["currency"], tuple(row["tiers"])) for row in self.kept()]
        currencies = {row["currency"] for row in fees}
        faults = overage_faults(quotas_in(quotas), overages, currencies=currencies)
        if faults:
            raise forms.ValidationError(faults)


def quotas_in(rows: list[dict[str, Any]]) -> list[Quota]:
    return [Quota(row["meter"], row["included"], row["overage"]) for row in rows]


def link(formsets: list[Any]) -> None:
    """Let the formsets of a page know of each other."""
    siblings = {type_of(formset): formset for formset in formsets}
    for formset in formsets:
        formset.siblings = siblings


def type_of(formset: Any) -> type[PlanFormSet]:
    # Django makes a subclass of each for the page.
    return next(kind for kind in (QuotaFormSet, FeeFormSet, OverageFormSet) if isinstance(formset, kind))
