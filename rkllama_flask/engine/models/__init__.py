"""The loaded models, and what a crash leaves of them."""
