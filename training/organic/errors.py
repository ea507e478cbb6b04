"""The one error of this tool."""


class OrganicError(Exception):
    """What was wrong, the value, and what is allowed or what to do."""
