"""Saved states of a model's KV cache: what each was made with, where it lies, and when it may be used."""
