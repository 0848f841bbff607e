"""One queue and one native thread that owns every runtime handle."""
