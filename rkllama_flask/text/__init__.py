"""Text that comes piece by piece, for whoever reads it."""
