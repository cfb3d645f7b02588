"""What can be wrong with a gradient: each mistake predicts the gradient that it would give."""
