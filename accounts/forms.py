from allauth.account import forms as allauth
from django import forms
from django.db import transaction
from django.http import HttpRequest

from accounts.models import Organization, User


class SignupForm(allauth.SignupForm):
    organization = forms.CharField(
        label="Company or project",
        max_length=150,
        widget=forms.TextInput(attrs={"autocomplete": "organization", "placeholder": "Acme Inc."}),
        help_text="You can change it later.",
    )
    field_order = ["organization", "email", "password1"]

    @transaction.atomic
    def save(self, request: HttpRequest) -> User:
        # The person and the organization come together or not at all.
        return super().save(request)

    def custom_signup(self, request: HttpRequest, user: User) -> None:
        """Called by allauth in the course of saving a new user."""
        Organization.objects.open(name=self.cleaned_data["organization"], owner=user)
