"""What was found, as data, as text and as a page."""
