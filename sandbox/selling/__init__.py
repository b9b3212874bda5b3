"""What customers do for themselves: Checkout and the portal."""
