"""What the lecture says, what it asks, and a network to work by hand."""
