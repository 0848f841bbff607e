"""What a model writes is read: reasoning, tool calls, lenient JSON."""
