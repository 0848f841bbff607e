"""Figures for Prometheus: what requests came to, counted as their responses close, and how things stand now.

Greenlets alone count, never the engine's thread, and nothing is counted from token to token. docs/monitoring.md has the
table of names.
"""

from collections.abc import Iterable, Iterator
from functools import partial

from flask import Flask, Response, current_app
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from rkllama_flask.api.web.context import services
from rkllama_flask.api.web.record import Record, record
from rkllama_flask.errors import RkllamaError
from rkllama_flask.generation.events import Ended
from rkllama_flask.machine.board import Board

_EXTENSION = "rkllama_metrics"

_WAITS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600)
_SPEEDS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 60, 80, 120)
_PREFILL_SPEEDS = (5, 10, 20, 40, 60, 80, 100, 150, 200, 300, 500, 1000)


def install(app: Flask, board: Board | None = None) -> None:
    """Count every request of `app`. `board` is where load and clocks are read."""
    # They would be a second series for each, which nobody asks for.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    metrics = app.extensions[_EXTENSION] = Metrics(board or Board())

    @app.after_request
    def _follow(response: Response) -> Response:
        response.call_on_close(partial(metrics.count, record()))
        return response


def expose(accept: str) -> tuple[bytes, str]:
    """All figures in the format that fits an `Accept` header, and its content type."""
    encode, content_type = choose_encoder(accept)
    return encode(current_app.extensions[_EXTENSION].registry), content_type


class Metrics:
    """The figures of one application in a registry of its own. Times in seconds, sizes in bytes."""

    def __init__(self, board: Board) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        registry.register(_Standing(board))

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"rkllama_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: Iterable[float]) -> Histogram:
            return Histogram(f"rkllama_{name}", text, ("model",), registry=registry, buckets=(*buckets, float("inf")))

        self._requests = counter("http_requests", "Requests by route and status", "method", "route", "status")
        self._errors = counter("errors", "Requests that ended in an error, by its code", "code")
        for code in {"client_gone", *_codes(RkllamaError)}:
            self._errors.labels(code)  # there from the start: Prometheus sees no step from nothing to one
        self._runs = counter("runs", "Answers and embeddings by how they ended", "kind", "model", "reason")
        self._prompt_tokens = counter("prompt_tokens", "Tokens of prompts", "model")
        self._cached_tokens = counter("cached_tokens", "Tokens of prompts whose prefill was saved", "model")
        self._completion_tokens = counter("completion_tokens", "Tokens generated", "model")
        self._prefill = counter("prefill_seconds", "Time spent on prefill", "model")
        self._decode = counter("decode_seconds", "Time spent on generating", "model")
        self._named = counter("named_cache_requests", "Requests for a named cache: hit or miss", "model", "result")
        self._waits = histogram("queue_wait_seconds", "Wait for a turn", _WAITS)
        self._first_token = histogram("time_to_first_token_seconds", "From asking to the first token", _WAITS)
        self._speed = histogram("decode_tokens_per_second", "Speed of generating, by answer", _SPEEDS)
        self._prefill_speed = histogram("prefill_tokens_per_second", "Speed of prefill, by answer", _PREFILL_SPEEDS)

    def count(self, record: Record) -> None:
        """A request is over."""
        method = record.method if record.route else ""  # what has no route can have any method
        self._requests.labels(method, record.route, record.status).inc()
        if record.error:
            self._errors.labels(record.error).inc()
        for ended in record.answers:
            self._count(ended)

    def _count(self, ended: Ended) -> None:
        model = ended.model
        self._runs.labels(ended.kind, model, ended.reason).inc()
        self._completion_tokens.labels(model).inc(ended.completion_tokens)
        if ended.cache_hit is not None:
            self._named.labels(model, "hit" if ended.cache_hit else "miss").inc()
        if ended.queue is not None:
            self._waits.labels(model).observe(ended.queue / 1e9)
        if ended.first_token is not None:
            self._first_token.labels(model).observe(ended.first_token / 1e9)
        if ended.prefill is not None:  # else nobody knows what was cached, and the sums would not fit together
            self._prompt_tokens.labels(model).inc(ended.prompt_tokens)
            self._cached_tokens.labels(model).inc(ended.cached_tokens)
        if ended.prefill:
            self._prefill.labels(model).inc(ended.prefill / 1e9)
            if (tokens := ended.prompt_tokens - ended.cached_tokens) > 1:
                self._prefill_speed.labels(model).observe(tokens / (ended.prefill / 1e9))
        if ended.decode:
            self._decode.labels(model).inc(ended.decode / 1e9)
            if ended.completion_tokens > 1:
                self._speed.labels(model).observe(ended.completion_tokens / (ended.decode / 1e9))


class _Standing:
    """How things stand at the moment someone asks, within a request."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def describe(self) -> Iterator[Metric]:
        """Nothing is told before it is asked for."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        yield from _engine()
        yield from _models()
        yield from self._machine()

    def _machine(self) -> Iterator[Metric]:
        available, load, clock = self._board.available_memory(), self._board.npu_load(), self._board.npu_clock()
        if available is not None:
            yield _gauge("memory_available_bytes", "Memory that models can still have", available)
        if load:
            family = GaugeMetricFamily("rkllama_npu_load_ratio", "How busy the NPU is, 0 to 1", labels=["core"])
            for core, busy in load.items():
                family.add_metric([core], busy)
            yield family
        if clock is not None:
            yield _gauge("npu_frequency_hertz", "The NPU's clock", clock.now)
            yield _gauge("npu_frequency_limit_hertz", "The NPU's highest clock", clock.limit)


def _engine() -> Iterator[Metric]:
    status = services().inference.status()
    yield _gauge("ready", "Whether a request would be taken up now", float(status.ready))
    yield _gauge("busy", "Whether the runtime is at work", float(status.busy is not None))
    yield _gauge("queue_waiting", "Requests that wait for their turn", status.waiting)
    yield _gauge("queue_expected_wait_seconds", "What a new request would wait", status.expected_wait)
    loads = CounterMetricFamily("rkllama_model_loads", "Loads of models", labels=["result"])
    loads.add_metric(["done"], status.loads.done)
    loads.add_metric(["failed"], status.loads.failed)
    yield loads
    yield CounterMetricFamily("rkllama_model_load_seconds", "Time spent on loads", value=status.loads.ns / 1e9)


def _models() -> Iterator[Metric]:
    inference = services().inference
    sizes = GaugeMetricFamily("rkllama_model_bytes", "Size of each loaded model's weights", labels=["model"])
    contexts = GaugeMetricFamily("rkllama_model_context_tokens", "Context of each loaded model", labels=["model"])
    for resident in inference.resident():
        sizes.add_metric([resident.model.name], resident.size)
        contexts.add_metric([resident.model.name], resident.context_length)
    yield from (sizes, contexts)
    yield _gauge("cache_bytes", "What prompt caches take", inference.caches.used_bytes)
    yield _gauge("cache_limit_bytes", "What prompt caches may take", inference.caches.max_bytes)


def _codes(kind: type[RkllamaError]) -> Iterator[str]:
    yield kind.code
    for below in kind.__subclasses__():
        yield from _codes(below)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"rkllama_{name}", text, value=value)
