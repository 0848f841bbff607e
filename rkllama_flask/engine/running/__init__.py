"""Runs on a loaded model, and the prompt caches before and after them."""
