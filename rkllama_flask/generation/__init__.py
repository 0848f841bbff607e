"""Between messages and tokens: prompts on the way in, reasoning, tool calls and text on the way out."""
