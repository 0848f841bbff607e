"""Whatever a client sends as a body, what a view gets is one sound JSON object, or nothing."""

import gzip
import io
import json
import re
import sys
from collections.abc import Callable
from typing import Any

import pytest
from flask import jsonify

from rkllama_flask.api.web.body import MAX_DEPTH, read_json
from tests.api.conftest import Api

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


@pytest.fixture
def echo(api: Api) -> Api:
    """An API with a route that answers the body it was sent."""
    api.app.post("/echo")(lambda: jsonify(read_json()))
    return api


def send(api: Api, raw: bytes, **headers: str) -> Any:
    return api.client.post(
        "/echo", data=raw, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


def refusal(api: Api, raw: bytes, **headers: str) -> str:
    response = send(api, raw, **headers)
    assert response.status_code == 400
    return str(response.json["error"]["message"])


@pytest.mark.parametrize("content_type", ["application/json", "application/x-www-form-urlencoded", "text/plain", ""])
def test_the_content_type_never_matters(echo: Api, content_type: str) -> None:
    assert send(echo, b'{"a": 1}', Content_Type=content_type).json == {"a": 1}


@pytest.mark.parametrize("raw", [b"", b" \r\n\t"])
def test_an_empty_body_is_an_empty_object(echo: Api, raw: bytes) -> None:
    assert send(echo, raw).json == {}


def test_a_byte_order_mark_is_skipped(echo: Api) -> None:
    assert send(echo, b'\xef\xbb\xbf{"a": "\xc3\xa4"}').json == {"a": "ä"}


@pytest.mark.parametrize("raw", [b"[1]", b'"a"', b"1", b"null"])
def test_only_an_object_is_a_body(echo: Api, raw: bytes) -> None:
    assert "must be a JSON object" in refusal(echo, raw)


def test_broken_json_is_refused_with_its_place(echo: Api) -> None:
    assert "line 2, column 3" in refusal(echo, b'{"a": 1,\n  b}')


def test_invalid_utf8_is_refused(echo: Api) -> None:
    assert "UTF-8" in refusal(echo, b'{"a": "\xff"}')


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"9" * 5000])
def test_a_number_that_is_none_is_refused(echo: Api, number: bytes) -> None:
    refusal(echo, b'{"a": ' + number + b"}")


def test_a_repeated_key_is_refused_at_any_depth(echo: Api) -> None:
    assert "twice" in refusal(echo, b'{"a": [{"b": 1, "b": 2}]}')


@pytest.mark.parametrize("text", [rb"\ud800", rb"\uDFFF", rb"\udc00\ud800", rb"a\ud83dz"])
def test_half_a_surrogate_pair_becomes_a_replacement_character_in_texts_and_is_refused_in_names(
    echo: Api, text: bytes
) -> None:
    whole = re.sub(rb"\\u[dD]...", "\ufffd".encode(), text).decode()
    assert send(echo, b'{"a": ["' + text + b'"]}').json == {"a": [whole]}
    assert send(echo, b'{"tools": [{"input_schema": {"name": "' + text + b'"}}]}').status_code == 200
    assert "surrogate" in refusal(echo, b'{"' + text + b'": 1}')
    assert "'a.0' has a key" in refusal(echo, b'{"a": [{"' + text + b'": 1}]}')
    assert "'tools.0.name'" in refusal(echo, b'{"tools": [{"name": "' + text + b'"}]}')


def test_a_whole_surrogate_pair_is_a_character(echo: Api) -> None:
    assert send(echo, rb'{"a": "\ud83d\ude00"}').json == {"a": "😀"}


def nested(levels: int) -> bytes:
    return b'{"a":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


def test_nesting_ends_at_the_limit(echo: Api) -> None:
    assert send(echo, nested(MAX_DEPTH)).status_code == 200
    assert "nested" in refusal(echo, nested(MAX_DEPTH + 1))


def test_nesting_beyond_what_the_parser_bears_is_refused_alike(echo: Api) -> None:
    assert "nested" in refusal(echo, nested(200_000))


@pytest.mark.parametrize(
    ("encoding", "compress"), [("gzip", gzip.compress), ("zstd", zstd.compress), ("GZip", gzip.compress)]
)
def test_a_compressed_body_is_read(echo: Api, encoding: str, compress: Any) -> None:
    assert send(echo, compress(b'{"a": 1}'), Content_Encoding=encoding).json == {"a": 1}


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("zstd", zstd.compress)])
def test_the_limit_counts_decompressed_bytes(echo: Api, encoding: str, compress: Any) -> None:
    echo.configure(max_body_bytes=1000)
    response = send(echo, compress(b" " * 1001), Content_Encoding=encoding)
    assert response.status_code == 413


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
@pytest.mark.parametrize("raw", [b"abc", gzip.compress(b"{}", mtime=0)[:-3], zstd.compress(b"{}")[:-1], b"\x1f\x8b"])
def test_broken_compression_is_refused(echo: Api, encoding: str, raw: bytes) -> None:
    assert f"not valid {encoding} data" in refusal(echo, raw, Content_Encoding=encoding)


def test_a_window_larger_than_browsers_take_is_refused(echo: Api) -> None:
    options = {zstd.CompressionParameter.window_log: 27, zstd.CompressionParameter.content_size_flag: 0}
    compressor = zstd.ZstdCompressor(options=options)
    raw = compressor.compress(json.dumps({"a": "b" * 100}).encode()) + compressor.flush()
    assert "zstd" in refusal(echo, raw, Content_Encoding="zstd")


def test_an_unknown_encoding_is_refused(echo: Api) -> None:
    assert "Content-Encoding" in refusal(echo, b"{}", Content_Encoding="br")


def test_a_body_over_the_limit_is_refused_by_its_length_alone(echo: Api) -> None:
    echo.configure(max_body_bytes=10)
    response = send(echo, b'{"a": "bcdefg"}')
    assert response.status_code == 413
    assert response.json["error"]["code"] == "payload_too_large"


def test_a_chunked_body_over_the_limit_is_refused_too(echo: Api) -> None:
    echo.configure(max_body_bytes=10)
    stream = io.BytesIO(b'{"a": 1}' + b" " * 10)
    response = echo.client.post("/echo", input_stream=stream, environ_overrides={"wsgi.input_terminated": True})
    assert response.status_code == 413


def test_a_chunked_body_within_the_limit_is_read(echo: Api) -> None:
    stream = io.BytesIO(b'{"a": 1}')
    response = echo.client.post("/echo", input_stream=stream, environ_overrides={"wsgi.input_terminated": True})
    assert response.json == {"a": 1}


class BrokenInput(io.RawIOBase):
    """An input that gives one byte and then fails."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error
        self.started = False

    def read(self, size: int = -1) -> bytes:
        if not self.started:
            self.started = True
            return b"{"
        if self.error:
            raise self.error
        return b""


class Socket:
    """gunicorn's socket, as far as a body needs it."""

    def __init__(self) -> None:
        self.timeouts: list[float | None] = []
        self.shut = False

    def gettimeout(self) -> None:
        return None

    def settimeout(self, seconds: float | None) -> None:
        self.timeouts.append(seconds)

    def shutdown(self, how: int) -> None:
        self.shut = True


def send_broken(api: Api, error: Exception | None, socket: Socket) -> Any:
    environ = {
        "wsgi.input": BrokenInput(error),
        "wsgi.input_terminated": True,
        "CONTENT_LENGTH": "20",
        "gunicorn.socket": socket,
    }
    return api.client.post("/echo", environ_overrides=environ)


def test_a_body_that_stops_coming_is_given_up_and_its_connection_read_no_further(echo: Api) -> None:
    socket = Socket()
    response = send_broken(echo, TimeoutError(), socket)
    assert response.status_code == 408
    assert response.json["error"]["code"] == "request_timeout"
    assert socket.timeouts == [30.0, None]
    assert socket.shut


@pytest.mark.parametrize("error", [ConnectionResetError(), None])
def test_a_client_that_leaves_amid_its_body_gets_nothing(echo: Api, error: Exception | None) -> None:
    response = send_broken(echo, error, Socket())
    assert response.status_code == 499
    assert response.data == b""


class ImpatientTimer:
    """A timer that fires as soon as it starts."""

    def __init__(self, _seconds: float, fire: Callable[[], None]) -> None:
        self.start = fire

    def cancel(self) -> None:
        pass


@pytest.mark.parametrize("error", [OSError("no more data"), None])
def test_a_body_that_only_trickles_is_given_up(
    echo: Api, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    monkeypatch.setattr("rkllama_flask.api.web.body.threading.Timer", ImpatientTimer)
    socket = Socket()
    assert send_broken(echo, error, socket).status_code == 408
    assert socket.shut
