"""A WSGI server that gives OpenAI, Ollama and Anthropic clients a language model on a Rockchip NPU."""

__version__ = "0.1.0"
