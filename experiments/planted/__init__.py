"""Wrong gradients to try the comparison with: the lecture's network, by hand, with every mistake."""
