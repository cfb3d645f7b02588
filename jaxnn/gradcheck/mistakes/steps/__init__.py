"""Mistakes at any step of any program, whatever is made there."""
