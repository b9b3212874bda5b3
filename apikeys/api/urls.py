from django.contrib.auth.decorators import login_not_required
from django.urls import path

from apikeys.api.echo import Echo, NoSuchEndpoint

# The gate decides who may come in, not the session: out of LoginRequiredMiddleware's reach.
urlpatterns = [
    path("echo", login_not_required(Echo.as_view()), name="echo"),
]
# After every other address under the API.
fallback = [
    path("", login_not_required(NoSuchEndpoint.as_view())),
    path("<path:rest>", login_not_required(NoSuchEndpoint.as_view())),
]
