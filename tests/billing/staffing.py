"""People of the staff, each with the permissions that are named and no more."""

from typing import Any

from django.contrib.auth.models import Permission
from django.test import Client

from accounts.models import User


def staff(*permissions: str) -> Client:
    """Return the browser of somebody new who may do this, signed in."""
    user = User.objects.create_user(f"{User.objects.count()}@staff.example", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user, backend="allauth.account.auth_backends.AuthenticationBackend")
    return client


def said(response: Any) -> str:
    """Return what the page tells at its top."""
    return " ".join(str(message) for message in response.context["messages"])
