"""The caller's API keys: listed, created, changed, rotated and revoked by a program."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from django.db.models import Q
from drf_spectacular.utils import extend_schema
from redis.exceptions import RedisError
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import Role, User
from accounts.session_auth import SessionClient
from apikeys.api.representing import (
    IssuedKeySerializer,
    KeyChangeSerializer,
    KeyPageQuerySerializer,
    KeyPageSerializer,
    KeySerializer,
    NewKeySerializer,
    RotationSerializer,
    represent,
)
from apikeys.errors import (
    AlreadyIssued,
    InvalidRestriction,
    KeyLimitReached,
    KeyNotActive,
    RotationRefused,
    ScopeExceeded,
)
from apikeys.models import APIKey
from apikeys.problems import Problem
from apikeys.rotation import rotate
from apikeys.scopes import check_within
from billing.api.base import ManagementView, checked
from billing.api.idempotency import PARAMETER, id_asked, idempotent
from billing.api.problems import OTHERS, READING, problems

TAGS = ["keys"]
WRITING = (
    *READING,
    "invalid",
    "permission_denied",
    "idempotency_key_reused",
    "idempotency_key_in_use",
    "key_not_changed",
)


class KeysView(ManagementView):
    """A view about the caller's keys."""

    read_scope = "keys:read"
    write_scope = "keys:write"

    def role_allows(self, role: Role) -> bool:
        return role.manages_keys

    @property
    def person(self) -> User | None:
        client: Any = self.request.user
        return client.user if isinstance(client, SessionClient) else None

    def held_scopes(self) -> Sequence[str]:
        """Return the scopes of the key that calls; none where it, or a person, may do everything."""
        client: Any = self.request.user
        if isinstance(client, SessionClient):
            return []
        scopes: list[str] = self.organization.api_keys.get(pk=client.api_key_id).scopes
        return scopes

    def get_key(self, key_id: UUID) -> APIKey:
        key: APIKey | None = self.organization.api_keys.filter(pk=key_id).first()
        if key is None:
            raise NotFound("You have no such API key.")
        return key


class Keys(KeysView):
    @extend_schema(
        operation_id="list_keys",
        summary="Your API keys, the newest first",
        parameters=[KeyPageQuerySerializer],
        responses={200: KeyPageSerializer, **problems(*READING, "invalid")},
        tags=TAGS,
    )
    def get(self, request: Request) -> Response:
        asked = checked(KeyPageQuerySerializer, request.query_params.dict())
        rows = self.organization.api_keys.order_by("-created_at", "-id")
        if "cursor" in asked:
            last = rows.filter(pk=asked["cursor"]).first()
            if last is None:
                raise serializers.ValidationError({"cursor": ["This is no cursor of yours."]})
            rows = rows.filter(
                Q(created_at__lt=last.created_at) | Q(created_at=last.created_at, id__lt=last.pk)
            )
        found = list(rows[: asked["limit"] + 1])
        page = found[: asked["limit"]]
        following = page[-1].pk if len(found) > len(page) else None
        return Response(KeyPageSerializer({"data": represent(page), "next_cursor": following}).data)

    @extend_schema(
        operation_id="create_key",
        summary="Create an API key",
        description="A key that is restricted to scopes can only give scopes of its own.",
        parameters=[PARAMETER],
        request=NewKeySerializer,
        responses={
            201: IssuedKeySerializer,
            **problems(*WRITING, "key_limit_reached", "scope_exceeded"),
        },
        tags=TAGS,
    )
    @idempotent(secrets=["secret"], shown_once=True)
    def post(self, request: Request) -> Response:
        asked = checked(NewKeySerializer, request.data)
        key_id = id_asked(request, self.organization)
        with told_as_problems():
            check_within(asked.get("scopes", []), held=self.held_scopes())
            try:
                key, secret = self.organization.api_keys.issue(
                    organization=self.organization, user=self.person, key_id=key_id, **asked
                )
            except AlreadyIssued:
                return issued(self.get_key(key_id), None)
        return issued(key, secret)


class KeyDetail(KeysView):
    @extend_schema(
        operation_id="retrieve_key",
        summary="One of your API keys",
        responses={200: KeySerializer, **problems(*READING, "not_found")},
        tags=TAGS,
    )
    def get(self, request: Request, key_id: UUID) -> Response:
        return shown(self.get_key(key_id))

    @extend_schema(
        operation_id="change_key",
        summary="Rename an API key, or change what it is restricted to",
        description="What is left out stays as it is. It counts from the key's next call on.",
        parameters=[PARAMETER],
        request=KeyChangeSerializer,
        responses={
            200: KeySerializer,
            **problems(*WRITING, "not_found", "key_not_active", "scope_exceeded"),
        },
        tags=TAGS,
    )
    @idempotent()
    def patch(self, request: Request, key_id: UUID) -> Response:
        key, asked = self.get_key(key_id), checked(KeyChangeSerializer, request.data)
        with told_as_problems():
            held = self.held_scopes()
            check_within(key.scopes, held=held)
            check_within(asked.get("scopes", key.scopes), held=held)
            key.change(**asked)
        return shown(key)

    @extend_schema(
        operation_id="revoke_key",
        summary="Revoke an API key",
        description="Its next call is refused, everywhere. A key may revoke itself.",
        parameters=[PARAMETER],
        responses={200: KeySerializer, **problems(*WRITING, "not_found")},
        tags=TAGS,
    )
    @idempotent()
    def delete(self, request: Request, key_id: UUID) -> Response:
        key = self.get_key(key_id)
        with told_as_problems():
            key.revoke()
        return shown(key)


class KeyRotation(KeysView):
    @extend_schema(
        operation_id="rotate_key",
        summary="Replace an API key by a new one",
        description="The new one has the same name, mode and restrictions, and needs no room in the plan's limit. For "
        "`overlap` seconds both work and share one quota. A key may rotate itself.",
        parameters=[PARAMETER],
        request=RotationSerializer,
        responses={
            201: IssuedKeySerializer,
            **problems(*WRITING, "not_found", "key_not_active", "rotation_refused", "scope_exceeded"),
        },
        tags=TAGS,
    )
    @idempotent(secrets=["secret"], shown_once=True)
    def post(self, request: Request, key_id: UUID) -> Response:
        key, asked = self.get_key(key_id), checked(RotationSerializer, request.data)
        new_id = id_asked(request, self.organization)
        with told_as_problems():
            check_within(key.scopes, held=self.held_scopes())
            try:
                new, secret = rotate(key, overlap=asked["overlap"], user=self.person, key_id=new_id)
            except AlreadyIssued:
                return issued(self.get_key(new_id), None)
        return issued(new, secret)


def shown(key: APIKey) -> Response:
    (content,) = represent([key])
    return Response(KeySerializer(content).data)


def issued(key: APIKey, secret: str | None) -> Response:
    (content,) = represent([key])
    return Response(IssuedKeySerializer({**content, "secret": secret}).data, status=201)


@contextmanager
def told_as_problems() -> Iterator[None]:
    """Answer what stands in the way of a change to keys as a problem."""
    try:
        yield
    except InvalidRestriction as error:
        raise serializers.ValidationError({error.field: [str(error)]}) from error
    except KeyLimitReached as error:
        raise problem("key_limit_reached", str(error), limit=error.limit) from error
    except KeyNotActive as error:
        raise problem("key_not_active", str(error)) from error
    except RotationRefused as error:
        raise problem("rotation_refused", str(error)) from error
    except ScopeExceeded as error:
        raise problem("scope_exceeded", str(error)) from error
    except RedisError as error:
        # The gate's copy could not be dropped: the change was undone, or a process would go by the old state.
        kind, detail, _ = OTHERS["key_not_changed"]
        raise Problem(
            status=kind.status, code=kind.code, title=kind.title, detail=detail, retry_after=1
        ) from error


def problem(code: str, detail: str, **members: object) -> Problem:
    kind = OTHERS[code][0]
    return Problem(status=kind.status, code=kind.code, title=kind.title, detail=detail, members=members)
