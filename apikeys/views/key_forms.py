"""What customers fill in about their keys."""

import re
from datetime import timedelta
from typing import Any
from uuid import uuid4

from django import forms

from apikeys.models import APIKey
from apikeys.restrictions import HIGHEST_CAP, NAME_LENGTH
from apikeys.rotation import OVERLAPS
from apikeys.scopes import known_scopes

MORE = ("mode", "scopes", "expires_at", "allowed_networks", "rate_per_minute")


class RestrictionsForm(forms.Form):
    """A key's name, and what it is restricted to. Times are in the zone that is active."""

    name = forms.CharField(
        max_length=NAME_LENGTH,
        label="Name",
        help_text="Where the key is used, such as “production” or “laptop”.",
    )
    scopes = forms.MultipleChoiceField(
        required=False,
        widget=forms.CheckboxSelectMultiple,
        label="What it may do",
        help_text="Tick none for a key that may do everything.",
    )
    expires_at = forms.DateTimeField(
        required=False,
        label="Works until",
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
        help_text="Leave it empty for a key with no end.",
    )
    allowed_networks = forms.CharField(
        required=False,
        label="Where it may be used from",
        widget=forms.Textarea(attrs={"rows": 3, "spellcheck": "false", "autocomplete": "off"}),
        help_text="One address or network a line, such as 203.0.113.7 or 2001:db8::/32. Empty: from everywhere.",
    )
    rate_per_minute = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=HIGHEST_CAP,
        label="Calls a minute",
        help_text="A cap for this key alone, within your plan's. Empty: as many as the plan allows.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        scopes = known_scopes() | dict.fromkeys((self.initial or {}).get("scopes", []), "")
        labels = [(scope, f"{scope}: {words}" if words else scope) for scope, words in sorted(scopes.items())]
        self.fields["scopes"].choices = labels  # type: ignore[attr-defined]

    def clean_allowed_networks(self) -> list[str]:
        return [entry for entry in re.split(r"[\s,]+", self.cleaned_data["allowed_networks"]) if entry]

    @property
    def restrictions(self) -> dict[str, Any]:
        """Return what `issue` and `change` take, of a valid form."""
        return {name: value for name, value in self.cleaned_data.items() if name != "attempt"}

    @property
    def has_more(self) -> bool:
        """Whether something beyond the name was filled in, or filled in wrongly: then it is not folded away."""
        filled = {name for name in MORE if self.data.get(name) not in {None, "", APIKey.Mode.LIVE.value}}
        return bool(filled or set(MORE) & set(self.errors))


class NewKeyForm(RestrictionsForm):
    # Names this form: sent again, by a reload or a second click, it makes no second key.
    attempt = forms.UUIDField(required=False, widget=forms.HiddenInput, initial=uuid4)
    mode = forms.ChoiceField(
        choices=[
            (APIKey.Mode.LIVE, "Live"),
            (APIKey.Mode.TEST, "Test: never billed, with a quota of the same size of its own"),
        ],
        initial=APIKey.Mode.LIVE,
        required=False,
        label="Kind",
    )

    field_order = ["attempt", "name", "mode"]

    def clean_mode(self) -> str:
        return self.cleaned_data["mode"] or APIKey.Mode.LIVE


class RotationForm(forms.Form):
    attempt = forms.UUIDField(required=False, widget=forms.HiddenInput, initial=uuid4)
    overlap = forms.TypedChoiceField(
        coerce=lambda seconds: timedelta(seconds=int(seconds)),
        choices=[(int(span.total_seconds()), label) for span, label in OVERLAPS.items()],
        initial=int(timedelta(hours=24).total_seconds()),
        label="How long the old key goes on working",
    )


class ExtensionForm(forms.Form):
    span = forms.TypedChoiceField(
        coerce=lambda seconds: timedelta(seconds=int(seconds)),
        choices=[(int(span.total_seconds()), label) for span, label in OVERLAPS.items() if span],
    )


def initial_of(key: APIKey) -> dict[str, Any]:
    """Return what the form shows of a key before anything is changed. Its field for a time knows no seconds."""
    return {
        "name": key.name,
        "scopes": key.scopes,
        "expires_at": key.expires_at.replace(second=0, microsecond=0) if key.expires_at else None,
        "allowed_networks": "\n".join(key.allowed_networks),
        "rate_per_minute": key.rate_per_minute,
    }
