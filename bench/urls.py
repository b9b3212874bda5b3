"""The project's addresses, and the bench's views beside them."""

from django.contrib.auth.decorators import login_not_required
from django.urls import path

from bench import views
from config import urls as project

handler500 = project.handler500
urlpatterns = [
    path("bench/plain", login_not_required(views.plain)),
    path("bench/slow", login_not_required(views.slow)),
    path("bench/bare", login_not_required(views.Bare.as_view())),
    path("bench/gated", login_not_required(views.Gated.as_view())),
    *([path("bench/peers", login_not_required(views.Peers.as_view()))] if views.HAS_PEERS else []),
    *project.urlpatterns,
]
