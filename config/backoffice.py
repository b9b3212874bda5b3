"""How the back office looks and what its sidebar offers."""

from django.templatetags.static import static
from django.urls import reverse_lazy

UNFOLD = {
    "SITE_TITLE": "Tollgate",
    "SITE_HEADER": "Tollgate",
    "SITE_SUBHEADER": "Back office",
    "SITE_SYMBOL": "toll",
    "SITE_URL": "/",
    "STYLES": [lambda request: static("admin.css")],
    "SIDEBAR": {
        "show_search": True,
        "navigation": [
            {
                "title": "Customers",
                "items": [
                    {
                        "title": "Organizations",
                        "icon": "apartment",
                        "link": reverse_lazy("admin:accounts_organization_changelist"),
                    },
                    {
                        "title": "Users",
                        "icon": "person",
                        "link": reverse_lazy("admin:accounts_user_changelist"),
                    },
                    {
                        "title": "API keys",
                        "icon": "key",
                        "link": reverse_lazy("admin:apikeys_apikey_changelist"),
                    },
                    {
                        "title": "Service tokens",
                        "icon": "vpn_key",
                        "link": reverse_lazy("admin:apikeys_servicetoken_changelist"),
                    },
                ],
            },
            {
                "title": "Billing",
                "items": [
                    {
                        "title": "Customers",
                        "icon": "groups",
                        "link": reverse_lazy("admin:billing_billingcustomer_changelist"),
                    },
                    {"title": "Plans", "icon": "sell", "link": reverse_lazy("admin:billing_plan_changelist")},
                    {
                        "title": "Meters",
                        "icon": "speed",
                        "link": reverse_lazy("admin:billing_meter_changelist"),
                    },
                    {
                        "title": "Entitlements",
                        "icon": "verified",
                        "link": reverse_lazy("admin:billing_entitlement_changelist"),
                    },
                    {
                        "title": "Overrides",
                        "icon": "tune",
                        "link": reverse_lazy("admin:billing_planoverride_changelist"),
                    },
                    {
                        "title": "Status policy",
                        "icon": "policy",
                        "link": reverse_lazy("admin:billing_statuspolicy_changelist"),
                    },
                    {
                        "title": "E-mails",
                        "icon": "mail",
                        "link": reverse_lazy("admin:billing_notice_changelist"),
                    },
                    {
                        "title": "Billing settings",
                        "icon": "settings",
                        "link": reverse_lazy("admin:billing_billingsettings_changelist"),
                    },
                    {
                        "title": "Trials",
                        "icon": "hourglass_top",
                        "link": reverse_lazy("admin:billing_trial_changelist"),
                    },
                ],
            },
            {
                "title": "Usage",
                "items": [
                    {
                        "title": "Overview",
                        "icon": "monitoring",
                        "link": reverse_lazy("admin:usage_overview"),
                    },
                    {
                        "title": "Rollups",
                        "icon": "bar_chart",
                        "link": reverse_lazy("admin:usage_usagerollup_changelist"),
                        # The pages of usage lie below theirs.
                        "active": lambda request: request.path.endswith("/usagerollup/"),
                    },
                    {
                        "title": "Meter reports",
                        "icon": "cloud_upload",
                        "link": reverse_lazy("admin:usage_meterreport_changelist"),
                    },
                    {
                        "title": "Proof",
                        "icon": "balance",
                        "link": reverse_lazy("admin:usage_proof_changelist"),
                    },
                    {
                        "title": "Corrections",
                        "icon": "edit_note",
                        "link": reverse_lazy("admin:usage_correction_changelist"),
                    },
                    {
                        "title": "Counters",
                        "icon": "speed",
                        "link": reverse_lazy("admin:apikeys_counterreading_changelist"),
                    },
                ],
            },
            {
                "title": "Operations",
                "items": [
                    {
                        "title": "Doctor",
                        "icon": "stethoscope",
                        "link": reverse_lazy("admin:billing_doctor"),
                    },
                    {
                        "title": "Reconciliations",
                        "icon": "sync",
                        "link": reverse_lazy("admin:billing_reconcilerun_changelist"),
                        # The doctor's page lies below theirs.
                        "active": lambda request: (
                            "/reconcilerun/" in request.path and "/doctor/" not in request.path
                        ),
                    },
                    {
                        "title": "Stripe",
                        "icon": "link",
                        "link": reverse_lazy("admin:billing_setuprun_changelist"),
                    },
                    {
                        "title": "Meter errors",
                        "icon": "report",
                        "link": reverse_lazy("admin:billing_thinevent_changelist"),
                    },
                ],
            },
        ],
    },
}
