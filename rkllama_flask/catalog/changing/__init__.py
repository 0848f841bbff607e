"""Writing to the models folder."""
