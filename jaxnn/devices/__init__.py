"""Many devices: the mesh they stand in, which of them holds what, and the step that is split over them."""


class Refused(ValueError):
    """Devices or processes cannot do what is asked: one line that says what, got and expected."""
