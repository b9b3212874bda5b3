from django.urls import path

from usage.views.usage import usage

urlpatterns = [path("dashboard/usage/", usage, name="usage")]
