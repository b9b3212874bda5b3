from django.urls import path

from usage.views.proof import usage_proof
from usage.views.usage import usage

urlpatterns = [
    path("dashboard/usage/", usage, name="usage"),
    path("dashboard/usage/proof/", usage_proof, name="usage-proof"),
]
