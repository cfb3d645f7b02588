"""What is raised where a run cannot be used."""


class RunError(ValueError):
    """A run that cannot be written or read: one line that says what, where, got and expected."""
