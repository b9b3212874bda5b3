from allauth.account.admin import EmailAddressAdmin as BaseEmailAddressAdmin
from allauth.account.models import EmailAddress
from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.contrib.auth.admin import GroupAdmin as BaseGroupAdmin
from django.contrib.auth.admin import UserAdmin as BaseUserAdmin
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from unfold.admin import ModelAdmin, TabularInline
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from accounts.models import Membership, Organization, User

# Theirs lack unfold's widgets.
admin.site.unregister([Group, EmailAddress])


class ReadOnlyAdmin(ModelAdmin):
    """For rows that the product computes or records: to look at, whatever a user's permissions."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def response_action(self, request: HttpRequest, queryset: QuerySet[Model]) -> HttpResponse | None:
        # Django would fail on a choice that is no primary key at all.
        try:
            for chosen in request.POST.getlist(helpers.ACTION_CHECKBOX_NAME):
                self.opts.pk.to_python(chosen)
        except ValidationError as error:
            messages.error(request, " ".join(error.messages))
            return None
        return super().response_action(request, queryset)


class OrganizationMembershipInline(TabularInline):
    model = Membership
    fields = ["user", "role", "created_at"]
    readonly_fields = ["created_at"]
    autocomplete_fields = ["user"]
    extra = 0


class UserMembershipInline(TabularInline):
    """Where a person belongs. Changed on the organization's page."""

    model = Membership
    fields = readonly_fields = ["organization", "role", "created_at"]
    extra = 0
    can_delete = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Membership]:
        return super().get_queryset(request).select_related("organization", "user")

    def has_add_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return False


@admin.register(Organization)
class OrganizationAdmin(ModelAdmin):
    list_display = ["name", "ref", "plan", "email", "created_at"]
    # By name, because this app does not import billing.
    list_select_related = ["entitlement__plan"]
    list_filter = ["entitlement__plan"]
    search_fields = ["name", "ref", "email", "memberships__user__email"]
    search_help_text = "Name, ref, billing e-mail or a member's e-mail"
    date_hierarchy = "created_at"
    fields = ["name", "email", "time_zone", "ref", "plan", "created_at"]
    readonly_fields = ["ref", "plan", "created_at"]
    inlines = [OrganizationMembershipInline]

    @admin.display(ordering="entitlement__plan__order")
    def plan(self, organization: Organization) -> str:
        entitlement = getattr(organization, "entitlement", None)
        return str(entitlement.plan) if entitlement else "-"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # Signing up makes one, with its owner and its entitlement.

    def has_delete_permission(self, request: HttpRequest, obj: Organization | None = None) -> bool:
        return False  # Its usage and invoices must stay explainable.


@admin.register(User)
class UserAdmin(BaseUserAdmin, ModelAdmin):
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    ordering = ["email"]
    list_display = ["email", "name", "is_active", "is_staff", "date_joined", "last_login"]
    list_filter = ["is_active", "is_staff", "is_superuser"]
    search_fields = ["email", "name", "memberships__organization__name"]
    readonly_fields = ["date_joined", "last_login"]
    filter_horizontal = ()
    autocomplete_fields = ["groups"]
    fieldsets = [
        (None, {"fields": ["email", "password", "name"]}),
        ("Access", {"fields": ["is_active", "is_staff", "is_superuser", "groups"]}),
        ("Dates", {"fields": ["date_joined", "last_login"]}),
    ]
    add_fieldsets = [(None, {"fields": ["email", "name", "usable_password", "password1", "password2"]})]
    inlines = [UserMembershipInline]


@admin.register(Group)
class GroupAdmin(BaseGroupAdmin, ModelAdmin):
    pass


@admin.register(EmailAddress)
class EmailAddressAdmin(BaseEmailAddressAdmin, ModelAdmin):
    list_select_related = ["user"]
    raw_id_fields = ()
    autocomplete_fields = ["user"]
