class FormalError(Exception):
    """What a proof needs is missing, or a tool did not do what it should."""
