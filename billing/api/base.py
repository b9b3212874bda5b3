from collections.abc import Mapping
from functools import cached_property
from typing import Any

from rest_framework import serializers
from rest_framework.permissions import SAFE_METHODS, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from accounts.limits import MANAGEMENT_READS, MANAGEMENT_WRITES, seconds_over
from accounts.models import Organization, Role
from accounts.session_auth import MemberAuthentication, MemberMayWrite, SessionClient


class ManagementThrottle(BaseThrottle):
    """Limit reads and writes of each API key, and of each person with a session, whatever the plan's rate."""

    def allow_request(self, request: Request, view: Any) -> bool:
        client: Any = request.user
        is_person = isinstance(client, SessionClient)
        group, limit = "reads", MANAGEMENT_READS
        if request.method not in SAFE_METHODS:
            group, limit = "writes", MANAGEMENT_WRITES
        self.seconds = seconds_over(
            request._request,
            group=f"management, {group}",
            caller=f"user {client.user.pk}" if is_person else f"key {client.api_key_id}",
            limit=limit,
        )
        return not self.seconds

    def wait(self) -> float:
        return self.seconds


class ManagementView(APIView):
    """A view by which customers manage their own affairs: with a key, or in a browser that is signed in here.

    It stays open to who has not paid or has used up a limit: without GateThrottle it costs no quota and takes no
    place in the plan's rates. It has limits of its own instead. A restricted key needs `read_scope` or
    `write_scope`; of a person the role decides about writing.
    """

    authentication_classes = [*APIView.authentication_classes, MemberAuthentication]
    permission_classes = [IsAuthenticated, MemberMayWrite]
    throttle_classes = [ManagementThrottle]
    read_scope = ""
    write_scope = ""

    @property
    def gate_scopes(self) -> tuple[str, ...]:
        """The scopes that the gate asks of the key, by the request's method."""
        return (self.read_scope if self.is_read else self.write_scope,)

    @property
    def is_read(self) -> bool:
        return self.request.method in SAFE_METHODS

    def role_allows(self, role: Role) -> bool:
        """Whether a member with this role may write."""
        raise NotImplementedError

    @cached_property
    def organization(self) -> Organization:
        """The tenant: every look-up starts from it."""
        organization: Organization = self.request.user.organization  # type: ignore[union-attr]
        return organization

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        response = super().finalize_response(request, response, *args, **kwargs)
        response["Cache-Control"] = "no-store"  # Client secrets and addresses that let their bearer in.
        return response


class BillingView(ManagementView):
    """A view about the caller's own plan and money."""

    read_scope = "billing:read"
    write_scope = "billing:write"

    def role_allows(self, role: Role) -> bool:
        return role.manages_billing


class StrictSerializer(serializers.Serializer[Any]):
    """What a client sends: a field that we do not know is refused, or a misspelt one would be ignored."""

    def to_internal_value(self, data: Any) -> Any:
        unknown = sorted(set(data) - set(self.fields)) if isinstance(data, Mapping) else []
        if unknown:
            raise serializers.ValidationError({name: ["There is no such field."] for name in unknown})
        return super().to_internal_value(data)


def checked(serializer: type[StrictSerializer], data: Any) -> dict[str, Any]:
    """Return what the client sent, checked. Raises ValidationError."""
    bound = serializer(data=data)
    bound.is_valid(raise_exception=True)
    values: dict[str, Any] = bound.validated_data
    return values
