from apikeys.errors import AlreadyIssued
from apikeys.models.counter_readings import CounterReading
from apikeys.models.keys import APIKey, APIKeyQuerySet
from apikeys.models.service_tokens import ServiceToken
from apikeys.models.uncounted import UncountedUnits

__all__ = ["APIKey", "APIKeyQuerySet", "AlreadyIssued", "CounterReading", "ServiceToken", "UncountedUnits"]
