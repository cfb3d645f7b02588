"""What happens inside a network, made visible: its graph, and pages that work anywhere without a network."""
