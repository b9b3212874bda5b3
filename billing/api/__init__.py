"""The part of the API that is about plans and money."""
