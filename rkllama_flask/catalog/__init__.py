"""Which models are on disk, what they are called, and what is known about them."""
