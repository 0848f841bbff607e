"""Looks at a machine and its settings and says what stands in the way of an answer: `scripts/doctor`."""
