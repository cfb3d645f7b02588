"""What the caller hands in: checked, named, and called without surprises."""
