"""A loss taken apart: its steps, its layers, and a backward pass whose parts can be exchanged."""
