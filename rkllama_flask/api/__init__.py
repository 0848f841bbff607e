"""HTTP: one room per dialect, each only parses, validates and frames."""
