"""What is sold and at what price: amounts, currencies, discounts and taxes."""
