"""The contenders of the benchmark: one epoch of the same training, each as its users write it."""
