from django.urls import path

from apikeys.views import keys, overview

urlpatterns = [
    path("dashboard/", overview.dashboard, name="dashboard"),
    path("dashboard/keys/", keys.keys, name="keys"),
    path("dashboard/keys/<uuid:key_id>/revoke/", keys.revoke, name="key-revoke"),
]
