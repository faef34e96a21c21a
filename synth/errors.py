class SynthesisError(RuntimeError):
    """Synthesis could not be done; the message says why."""
