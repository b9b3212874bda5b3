"""Months of a small company's life, played through the product's own code on a clock of their own."""
