from django.contrib.auth.decorators import login_not_required
from django.urls import path

from apikeys.api.echo import Echo, NoSuchEndpoint
from apikeys.api.events import Events
from apikeys.api.gateway import Authorize
from apikeys.api.keys import KeyDetail, KeyRotation, Keys
from apikeys.api.settle import Settle
from apikeys.api.subscription import Subscription
from apikeys.api.verify import Verify

# The gate decides who may come in, not the session: out of LoginRequiredMiddleware's reach.
urlpatterns = [
    path("echo", login_not_required(Echo.as_view()), name="echo"),
    path("gateway/authorize", login_not_required(Authorize.as_view()), name="gateway-authorize"),
    path("events", login_not_required(Events.as_view()), name="events"),
    path("keys/verify", login_not_required(Verify.as_view()), name="keys-verify"),
    path("keys/verify/settle", login_not_required(Settle.as_view()), name="keys-verify-settle"),
    path("keys", login_not_required(Keys.as_view()), name="api-keys"),
    path("keys/<uuid:key_id>", login_not_required(KeyDetail.as_view()), name="api-key"),
    path("keys/<uuid:key_id>/rotate", login_not_required(KeyRotation.as_view()), name="api-key-rotate"),
    # In front of billing's, see config/urls.py.
    path("subscription", login_not_required(Subscription.as_view()), name="api-subscription"),
]
# After every other address under the API.
fallback = [
    # Envoy puts the path of the request in hand behind its prefix.
    path("gateway/authorize/", login_not_required(Authorize.as_view(schema=None))),
    path("gateway/authorize/<path:original>", login_not_required(Authorize.as_view(schema=None))),
    path("", login_not_required(NoSuchEndpoint.as_view())),
    path("<path:rest>", login_not_required(NoSuchEndpoint.as_view())),
]
