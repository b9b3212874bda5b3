"""Invoices: their lines, what they add up to, how they are collected and corrected."""
