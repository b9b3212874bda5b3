from django.urls import path

from usage import views

urlpatterns = [path("dashboard/usage/", views.usage, name="usage")]
