"""Answers by a schema: the server writes what is fixed, the model the values."""
