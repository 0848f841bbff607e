"""Messages become a prompt: templates, special strings, tokens."""
