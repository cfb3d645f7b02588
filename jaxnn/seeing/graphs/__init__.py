"""A computation as a scene of nodes and edges, where they stand, and its forms: text, SVG, PNG."""
