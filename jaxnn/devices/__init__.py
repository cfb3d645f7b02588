"""Many devices: the mesh they stand in, which of them holds what, and the step that is split over them."""
