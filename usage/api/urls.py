from django.urls import URLPattern

# The gate decides who may come in, not the session: each view is out of LoginRequiredMiddleware's reach.
urlpatterns: list[URLPattern] = []
