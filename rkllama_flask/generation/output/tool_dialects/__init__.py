"""The ways models write tool calls."""
