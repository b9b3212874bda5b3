from accounts.models import Organization


class BillingCustomer(Organization):
    """An organization as billing's staff see it: what it has bought, what it owes and what it may do."""

    class Meta:
        proxy = True
        verbose_name = "customer"
        ordering = ["name", "pk"]
        permissions = [("manage_subscription", "Can change and cancel a customer's subscription")]
