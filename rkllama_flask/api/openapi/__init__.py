"""What a view accepts and returns."""
