from django.urls import path

from apikeys.views import first_key, keys, leaked, overview

urlpatterns = [
    path("dashboard/", overview.dashboard, name="dashboard"),
    path("dashboard/first-key/", first_key.first_key, name="first-key"),
    path("dashboard/keys/", keys.keys, name="keys"),
    path("dashboard/keys/<uuid:key_id>/", keys.key, name="key"),
    path("dashboard/keys/<uuid:key_id>/rotate/", keys.rotate_key, name="key-rotate"),
    path("dashboard/keys/<uuid:key_id>/extend/", keys.extend_key, name="key-extend"),
    path("dashboard/keys/<uuid:key_id>/revoke/", keys.revoke, name="key-revoke"),
    path("leaked-key/", leaked.leaked_key, name="leaked-key"),
]
