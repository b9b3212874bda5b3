from django.contrib import admin, messages
from django.http import HttpRequest
from redis.exceptions import RedisError
from unfold.admin import ModelAdmin

from apikeys.models import APIKey, APIKeyQuerySet


@admin.register(APIKey)
class APIKeyAdmin(ModelAdmin):
    list_display = ["prefix", "name", "organization", "created_at", "created_by", "active"]
    list_select_related = ["organization", "created_by"]
    list_filter = [("revoked_at", admin.EmptyFieldListFilter)]
    search_fields = ["prefix", "name", "organization__name", "organization__ref"]
    search_help_text = "Start of the key, its name, or its organization's name or ref"
    date_hierarchy = "created_at"
    fields = ["prefix", "name", "organization", "created_at", "created_by", "revoked_at"]
    readonly_fields = ["prefix", "organization", "created_at", "created_by", "revoked_at"]
    actions = ["revoke"]

    @admin.display(boolean=True, ordering="revoked_at")
    def active(self, key: APIKey) -> bool:
        return key.is_active

    @admin.action(description="Revoke: refuse the next call with them", permissions=["change"])
    def revoke(self, request: HttpRequest, keys: APIKeyQuerySet) -> None:
        for key in keys.active().select_related("organization"):
            try:
                key.revoke()
            except RedisError:
                self.message_user(request, f"“{key}” is not revoked yet: try again.", messages.ERROR)
            else:
                self.log_change(request, key, "Revoked")
                self.message_user(request, f"“{key}” is revoked.", messages.SUCCESS)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # Only the customer may see a secret, so staff cannot mint one.

    def has_delete_permission(self, request: HttpRequest, obj: APIKey | None = None) -> bool:
        return False  # The ledger names it.
