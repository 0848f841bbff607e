"""What every host and every proxy has to do with a stream."""

import requests

from tests.hosts.test_hosts import chat, read_stream


def ask(url: str, prompt: str) -> requests.Response:
    """A streamed answer, unread."""
    body = chat(prompt, stream=True)
    return requests.post(f"{url}/v1/chat/completions", json=body, stream=True, timeout=60)


def assert_tokens_arrive_one_by_one(url: str) -> None:
    """A busy machine may read late; what is buffered to the end comes within a moment."""
    texts = read_stream(ask(url, "<<script tokens=20 decode_ms=50>>"))
    assert "".join(text for _, text in texts).split() == [f"w{n}" for n in range(20)]
    assert len(texts) == 20
    assert texts[-1][0] - texts[0][0] > 0.2


def leave_a_stream(url: str) -> None:
    """After its first line; it would go on for 30 s."""
    response = ask(url, "<<script tokens=3000 decode_ms=10>>")
    next(response.iter_lines())
    response.close()
