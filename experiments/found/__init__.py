"""Gradients of released libraries that were found to be wrong, by the kind of library."""
