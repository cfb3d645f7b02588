"""Right, wrong or cannot tell: both sides at points that tell, and the numbers in the caller's precision."""
