"""Named prompt caches: saved prefill, bound to what it was made with."""
