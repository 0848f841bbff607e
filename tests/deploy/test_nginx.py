"""conf/nginx/rkllama.conf under the real nginx: TLS, streams, clients that leave, limits."""

import hashlib
import time
from collections.abc import Callable, Iterator

import pytest
import requests

from rkllama_flask.settings import Settings
from tests.conftest import scripted_library
from tests.deploy import proxies
from tests.deploy.streams import assert_tokens_arrive_one_by_one, leave_a_stream
from tests.serving import ROOT, Server, start_server

pytestmark = pytest.mark.skipif(proxies.installed("nginx") is None, reason="nginx is not installed")

SOCKET = "/run/rkllama/http.sock"
LIMIT = 8 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on a unix socket behind nginx; nginx is there first, as after a reboot of both."""
    folder = tmp_path_factory.mktemp("n")
    place = folder / "http.sock"
    with (
        pytest.MonkeyPatch.context() as patch,
        proxies.nginx(folder / "nginx", "rkllama.conf", {SOCKET: str(place)}) as url,
    ):
        patch.setenv("REQUESTS_CA_BUNDLE", str(folder / "nginx" / "fullchain.pem"))
        down = requests.get(f"{url}/v1/models", timeout=10)
        assert (down.status_code, down.json()["error"]["code"]) == (503, "unavailable")
        assert int(down.headers["Retry-After"]) > 0
        env = {"HOST": f"unix:{place}"}
        started = start_server(folder / "server", library=scripted_library("1.3"), env=env, proxy=url)
        yield started
        started.stop()


def test_tokens_arrive_one_by_one(server: Server) -> None:
    assert_tokens_arrive_one_by_one(server.url)


def test_a_client_that_leaves_stops_the_runtime(server: Server) -> None:
    leave_a_stream(server.url)
    deadline = time.monotonic() + 10
    while server.get("/health").json()["busy"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    last = [line for line in server.calls if line.split()[3] == "run_end"][-1]
    assert int(last.split("tokens=")[1].split()[0]) < 3000


APIS = ["/v1/chat/completions", "/api/chat", "/v1/messages"]


def test_a_body_over_the_limit_is_refused_as_the_server_itself_would(
    server: Server, serve: Callable[..., Server]
) -> None:
    """The same keys and constants in each API; only the sentence differs."""
    direct = serve(MAX_BODY_BYTES="10")
    for path in APIS:
        ours = direct.post(path, {"model": "long enough"})
        theirs = requests.post(server.url + path, data=b" " * (LIMIT + 1), timeout=60)
        assert ours.status_code == theirs.status_code == 413
        assert theirs.headers["Content-Type"] == "application/json"
        assert shape(ours.json()) == shape(theirs.json())


def test_a_body_that_does_not_tell_its_length_is_read_up_to_the_limit(server: Server) -> None:
    response = requests.post(server.url + "/v1/chat/completions", data=iter([b" " * (LIMIT + 1)]), timeout=60)
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "payload_too_large"


def shape(value: object) -> object:
    """Keys and constants of an error, without its sentences."""
    if isinstance(value, dict):
        return {key: None if key in ("message", "request_id") else shape(item) for key, item in value.items()}
    return value if isinstance(value, str) and " " not in value else None


def test_the_limits_are_the_servers_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MAX_BODY_BYTES", "QUEUE_TIMEOUT", "REQUEST_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    settings = Settings.from_environment()
    limits = (ROOT / "conf" / "nginx" / "rkllama" / "limits.conf").read_text()
    proxy = (ROOT / "conf" / "nginx" / "rkllama" / "proxy.conf").read_text()
    assert f"client_max_body_size {settings.max_body_bytes >> 20}m;" in limits
    silence = int(proxy.split("proxy_read_timeout ")[1].split("s;")[0])
    assert silence > settings.queue_timeout + settings.request_timeout
    assert "non_idempotent" not in proxy.replace("no `non_idempotent`", "")


def test_a_file_far_above_the_limit_goes_through(server: Server) -> None:
    data = b"load_ms=0\n" + bytes(LIMIT)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert requests.post(f"{server.url}/api/blobs/{digest}", data=data, timeout=60).status_code == 201
    assert requests.head(f"{server.url}/api/blobs/{digest}", timeout=10).status_code == 200
    wrong = requests.post(f"{server.url}/api/blobs/sha256:{'0' * 64}", data=data, timeout=60)
    assert (wrong.status_code, "digest mismatch" in wrong.json()["error"]) == (400, True)
