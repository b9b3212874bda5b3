from django.urls import path

from billing import views

urlpatterns = [
    path("", views.home, name="home"),
    path("pricing/", views.pricing, name="pricing"),
    path("dashboard/billing/", views.billing, name="billing"),
    path("dashboard/billing/checkout/", views.checkout, name="checkout"),
    path("dashboard/billing/return/", views.checkout_return, name="checkout-return"),
]
