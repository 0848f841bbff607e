"""Random cuts among many jobs: whoever is not cut gets every byte."""

import contextlib
import json
import random
import threading
from collections.abc import Callable

import pytest
import requests

from tests.hosts.test_hosts import chat
from tests.serving import Server

CLIENTS, JOBS, CUTS = 20, 1000, 200


@pytest.mark.parametrize("host", ["gevent", "gthread", "waitress"])
def test_200_cuts_among_1000_jobs_leave_every_uncut_answer_byte_exact(
    family: str, serve: Callable[..., Server], host: str
) -> None:
    server = serve(family=family, host=host, MAX_QUEUE="100")
    chance = random.Random(20)
    cut = set(chance.sample(range(JOBS), CUTS))
    after = {job: chance.randrange(8) for job in cut}
    jobs = iter(range(JOBS))
    wrong: list[str] = []

    def client() -> None:
        session = requests.Session()
        for job in jobs:
            prompt = f"<<script text=job%20{job}%20says%20a%20b%20c%20d%20{job} decode_ms=0.3>>"
            body = chat(prompt, stream=job % 3 != 0)
            if job in cut:
                with contextlib.suppress(requests.RequestException):
                    response = requests.post(
                        server.url + "/v1/chat/completions", json=body | {"stream": True}, stream=True, timeout=30
                    )
                    lines = response.iter_lines()
                    for _ in range(after[job]):
                        next(lines, None)
                    response.close()
                continue
            text = session.post(server.url + "/v1/chat/completions", json=body, timeout=60).text
            answer = "".join(pieces(text))
            if answer != f"job {job} says a b c d {job}":
                wrong.append(f"{job}: {answer!r}")
        session.close()

    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert wrong == []
    assert server.get("/health").json()["queue"]["waiting"] == 0


def pieces(body: str) -> list[str]:
    """The texts of a reply, streamed or whole."""

    if not body.startswith("data:"):
        return [json.loads(body)["choices"][0]["message"]["content"]]
    chunks = [json.loads(line[6:]) for line in body.splitlines() if line.startswith("data: {")]
    return [chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks]
