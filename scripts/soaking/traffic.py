"""Clients of every kind, good and bad, each of which knows what it has to be answered."""

import json
import random
import socket
import struct
import threading
import time
from collections import Counter
from urllib.parse import quote

import requests
from dialects import CHAT, DIALECTS, Dialect, Unfinished
from malformed import MALFORMED

TIMEOUT = 60
MODELS = ("one", "two")
SWITCH_EVERY = 15.0
"""Seconds for which most requests ask for the same model."""

OPENINGS = [f"You are assistant {n}. " + " ".join(f"rule{n}x{word}" for word in range(120)) for n in range(4)]
WORDS = ("plain", "naïve", "Größe", "漢字", "🙂", "a\tb", "“quoted”", '{"json": 1}', "\\n", "<b>")
POLLED = ("/health", "/ready", "/v1/models", "/api/tags", "/api/ps", "/api/version", "/v1/cache")


class Traffic:
    """`run` until `stop`; `paused` lets the server come to rest. `breaches` are the sentences that fail the soak."""

    def __init__(self, url: str, port: int, *, rate: float, clients: int, seed: int) -> None:
        self._url = url
        self._port = port
        self._chance = random.Random(seed)
        self._lock = threading.Lock()
        self._rate = rate
        self._slot = time.monotonic()
        self._job = 0
        self._begun = time.monotonic()
        self._running = threading.Event()
        self._over = threading.Event()
        self._busy = 0
        self.crashing_until = 0.0
        self.counts: Counter[str] = Counter()
        self.breaches: list[str] = []
        self._threads = [threading.Thread(target=self._client, daemon=True) for _ in range(clients)]

    def start(self) -> None:
        self._running.set()
        for thread in self._threads:
            thread.start()

    def pause(self) -> None:
        """Returns when no request is under way and no connection open."""
        self._running.clear()
        while self._busy:
            time.sleep(0.05)

    def resume(self) -> None:
        self._running.set()

    def stop(self) -> None:
        self._over.set()
        self._running.set()
        for thread in self._threads:
            thread.join(TIMEOUT)

    def crash(self) -> None:
        """Take the process down in the middle of an answer; who was connected may lose that connection."""
        with self._lock:
            self._job += 1
            self.crashing_until = float("inf")
        prompt = f"{self._job} <<script tokens=9 decode_ms=2 segv=3>>"
        try:
            requests.post(self._url + CHAT.path, json=CHAT.body("one", prompt), timeout=TIMEOUT)
            self._breach("a crash that took nothing down")
        except requests.RequestException:
            self.counts["crashes"] += 1
        deadline = time.monotonic() + TIMEOUT
        while not self._answers():
            if time.monotonic() > deadline:
                self._breach("no answer after a crash")
                break
            time.sleep(0.1)
        self.crashing_until = time.monotonic() + 5  # those that were sent to the dead process come back by now

    def _answers(self) -> bool:
        try:
            return requests.get(self._url + "/ready", timeout=5).status_code == 200
        except requests.RequestException:
            return False

    def _client(self) -> None:
        while not self._over.is_set():
            self._running.wait()
            with self._lock:
                self._busy += 1
            session = requests.Session()
            try:
                while self._running.is_set() and not self._over.is_set():
                    self._act(session)
            finally:
                session.close()
                with self._lock:
                    self._busy -= 1

    def _act(self, session: requests.Session) -> None:
        with self._lock:
            self._job += 1
            job = self._job
            self._slot = max(self._slot + 1 / self._rate, time.monotonic() - 1)
            wait = self._slot - time.monotonic()
            chance = random.Random(self._chance.random())
        time.sleep(max(0.0, wait))
        begun = time.monotonic()
        kind = "?"
        try:
            kind = self._one(session, job, chance)
            self.counts[kind] += 1
        except (requests.RequestException, OSError, Unfinished, ValueError, KeyError) as error:
            if begun < self.crashing_until or time.monotonic() < self.crashing_until:
                self.counts["lost in a crash"] += 1
            else:
                self._breach(f"job {job} after {time.monotonic() - begun:.1f} s: {type(error).__name__}: {error}")

    def _one(self, session: requests.Session, job: int, chance: random.Random) -> str:
        dice = chance.random()
        if dice < 0.10:
            return self._malformed(chance)
        if dice < 0.15:
            self._expect(session.get(self._url + chance.choice(POLLED), timeout=TIMEOUT), 200, 503)
            return "polls"
        if dice < 0.18:
            return self._embed(session, chance)
        if dice < 0.20:
            return self._slow_body(job, chance)
        if dice < 0.22:
            return self._make_cache(session, chance)
        return self._generate(session, job, chance)

    def _generate(self, session: requests.Session, job: int, chance: random.Random) -> str:
        dialect = chance.choice(DIALECTS)
        streamed = chance.random() < 0.7
        text = f"job {job} says " + " ".join(chance.choices(WORDS, k=chance.randrange(1, 30)))
        body = self._body(dialect, job, text, chance) | {"stream": streamed}
        if streamed and chance.random() < 1 / 3:
            return self._hang_up(dialect, body, chance)
        reply = session.post(self._url + dialect.path, json=body, timeout=TIMEOUT)
        if not self._expect(reply, 200, 503, *((404,) if "use_cache" in body else ())):
            return "no such cache" if reply.status_code == 404 else "busy"
        answer = dialect.read(reply.content, streamed=streamed)
        if answer != text:
            self._breach(f"job {job} of {dialect.path} was answered {answer!r} instead of {text!r}")
        return "streams" if streamed else "whole answers"

    def _body(self, dialect: Dialect, job: int, text: str, chance: random.Random) -> dict[str, object]:
        split = chance.choice(("bytes", "waiting", "partial", ""))
        script = f"text={quote(text)} decode_ms={chance.choice((0, 0.5, 2))} prefill_ms={chance.choice((0, 0, 30))}"
        prompt = f"{job} <<script {script}{f' split={split}' if split else ''}>>"
        body = dialect.body(self._model(chance), prompt)
        if dialect is CHAT and chance.random() < 0.5:
            opening = chance.randrange(len(OPENINGS))
            body["messages"].insert(0, {"role": "system", "content": OPENINGS[opening]})
            if chance.random() < 0.5:
                body["use_cache"] = f"opening{opening}"
        return body

    def _model(self, chance: random.Random) -> str:
        turn = int((time.monotonic() - self._begun) / SWITCH_EVERY)
        return MODELS[(turn + (chance.random() < 0.02)) % len(MODELS)]

    def _hang_up(self, dialect: Dialect, body: dict[str, object], chance: random.Random) -> str:
        """Leave at any moment: at once, before the first byte, in the middle, at the end; politely or not."""
        with self._send(dialect.path, json.dumps(body).encode()) as connection:
            if chance.random() < 0.4:
                time.sleep(chance.random() * 0.1)
            else:
                left = chance.randrange(1, 4000)
                while left > 0 and (got := len(connection.recv(min(left, 400)))):
                    left -= got
            if chance.random() < 0.5:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return "hung up"

    def _slow_body(self, job: int, chance: random.Random) -> str:
        text = f"job {job} came slowly"
        raw = json.dumps(CHAT.body(self._model(chance), f"{job} <<script text={quote(text)}>>")).encode()
        with self._send(CHAT.path, raw, pieces=4) as connection:
            reply = self._read_all(connection)
        head, _, content = reply.partition(b"\r\n\r\n")
        if b" 503 " in head.split(b"\r\n")[0]:
            return "busy"
        if b" 200 " not in head.split(b"\r\n")[0] or CHAT.read(content, streamed=False) != text:
            raise Unfinished(reply[:300].decode(errors="replace"))
        return "slow bodies"

    def _malformed(self, chance: random.Random) -> str:
        case = chance.choice(MALFORMED)
        with socket.create_connection(("127.0.0.1", self._port), timeout=TIMEOUT) as connection:
            try:
                connection.sendall(case.raw)
                if not case.statuses:
                    return "malformed"
                reply = self._read_all(connection)
            except ConnectionError:  # a server may answer a flood before it has read it all
                return "malformed, cut"
        head, _, content = reply.partition(b"\r\n\r\n")
        status = int([*head.split(b" "), b"0", b"0"][1])
        if status not in case.statuses or (case.ours and not json.loads(content).get("error")):
            self._breach(f"{case.name} was answered {reply[:300]!r}")
        return "malformed"

    def _embed(self, session: requests.Session, chance: random.Random) -> str:
        texts = [f"embedding {chance.randrange(50)}" for _ in range(chance.randrange(1, 4))]
        body = {"model": self._model(chance), "input": texts}
        reply = session.post(self._url + "/v1/embeddings", json=body, timeout=TIMEOUT)
        if not self._expect(reply, 200, 503):
            return "busy"
        if len(reply.json()["data"]) != len(texts):
            self._breach(f"{len(texts)} embeddings were answered {reply.text[:300]}")
        return "embeddings"

    def _make_cache(self, session: requests.Session, chance: random.Random) -> str:
        opening = chance.randrange(len(OPENINGS))
        path = f"{self._url}/v1/cache/{self._model(chance)}"
        if chance.random() < 0.3:
            self._expect(session.delete(f"{path}/opening{opening}", timeout=TIMEOUT), 200, 404, 503)
        else:
            body = {"cache_name": f"opening{opening}", "prompt": OPENINGS[opening]}
            self._expect(session.post(path, json=body, timeout=TIMEOUT), 200, 503)
        return "caches"

    def _send(self, path: str, body: bytes, *, pieces: int = 1) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self._port), timeout=TIMEOUT)
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode())
        step = -(-len(body) // pieces)
        for start in range(0, len(body), step):
            connection.sendall(body[start : start + step])
            if pieces > 1:
                time.sleep(0.2)
        return connection

    @staticmethod
    def _read_all(connection: socket.socket) -> bytes:
        blocks = []
        while block := connection.recv(65536):
            blocks.append(block)
        return b"".join(blocks)

    def _expect(self, reply: requests.Response, *statuses: int) -> bool:
        """Whether it is a success; any status not expected is a breach, and so is 503 without a Retry-After."""
        if reply.status_code >= 500 and reply.status_code not in statuses:
            self._breach(f"{reply.request.path_url}: {reply.status_code} {reply.text[:300]}")  # also amid a crash
        if reply.status_code not in statuses or (reply.status_code == 503 and "Retry-After" not in reply.headers):
            raise Unfinished(f"{reply.request.method} {reply.request.path_url}: {reply.status_code} {reply.text[:300]}")
        return reply.status_code == 200

    def _breach(self, sentence: str) -> None:
        with self._lock:
            self.breaches.append(sentence)
