"""The one exception for what a person can mend."""


class LaunchError(Exception):
    """Something is missing or taken; the message is a sentence that says how to mend it."""
