class DemoError(Exception):
    """The demo cannot be played, or not to its end. The message is a sentence to be shown."""
