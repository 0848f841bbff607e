"""Requests that can be sent as they stand, to the model that comes with the installation. A test sends each of them."""

MODEL = "smollm2-135m-instruct"
"""Stands for a model that is there; the document that is served names one."""

HUB_MODEL = "Qwen/Qwen3-0.6B-GGUF:Q8_0"

_QUESTION = "What is the capital of France?"
_CONVERSATION = [{"role": "user", "content": _QUESTION}]

CHAT = {"model": MODEL, "messages": _CONVERSATION, "max_tokens": 16, "stream": False}
COMPLETION = {"model": MODEL, "prompt": "The capital of France is", "max_tokens": 8}
EMBEDDING = {"model": MODEL, "input": ["A red apple.", "A green pear."]}
RESPONSE = {"model": MODEL, "instructions": "Answer briefly.", "input": _QUESTION, "max_output_tokens": 16}
TOKENIZE = {"model": MODEL, "content": "A red apple."}
DETOKENIZE = {"model": MODEL, "tokens": [49, 2938]}

MESSAGES = {"model": MODEL, "max_tokens": 16, "system": "Answer briefly.", "messages": _CONVERSATION}
COUNT = {"model": MODEL, "messages": _CONVERSATION}

OLLAMA_CHAT = {"model": MODEL, "messages": _CONVERSATION, "stream": False, "options": {"num_predict": 16}}
OLLAMA_GENERATE = {"model": MODEL, "prompt": _QUESTION, "stream": False, "options": {"num_predict": 16}}
OLLAMA_EMBED = {"model": MODEL, "input": "A red apple."}
OLLAMA_EMBEDDINGS = {"model": MODEL, "prompt": "A red apple."}
OLLAMA_NAME = {"model": MODEL}
OLLAMA_COPY = {"source": MODEL, "destination": "my-copy"}
OLLAMA_CREATE = {"model": "my-assistant", "from": MODEL, "system": "You answer in rhymes.", "stream": False}
OLLAMA_DELETE = {"model": "my-copy"}
OLLAMA_PULL = {"model": HUB_MODEL, "stream": False}

LOAD = {"model": MODEL, "context_length": 2048}
UNLOAD = {"model": MODEL}
DOWNLOAD = {"model": HUB_MODEL.partition(":")[0], "file": HUB_MODEL.partition(":")[2]}
CACHE = {"cache_name": "system", "prompt": "You are a helpful assistant. You answer in one short sentence."}

PATHS = {
    "name": MODEL,
    "model_name": MODEL,
    "place": f"{MODEL}/system",
    "digest": "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
}
"""The parts of paths, by the names that the routes give them."""
