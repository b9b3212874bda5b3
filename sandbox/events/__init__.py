"""Telling others: events, webhooks and their endpoints."""
