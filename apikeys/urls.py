from django.urls import path

from apikeys import views

urlpatterns = [
    path("dashboard/", views.dashboard, name="dashboard"),
    path("dashboard/keys/", views.keys, name="keys"),
    path("dashboard/keys/<uuid:key_id>/revoke/", views.revoke, name="key-revoke"),
]
