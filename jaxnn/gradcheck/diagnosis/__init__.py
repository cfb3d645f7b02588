"""Which mistake it is, and where: run only when a gradient is wrong."""
