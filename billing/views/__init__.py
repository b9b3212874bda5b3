"""The customer's pages about plans and money."""
