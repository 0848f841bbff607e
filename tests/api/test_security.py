"""No foreign web page drives this server, and where keys are set nobody does without one."""

import pytest

from tests.api.conftest import Api

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost",
        "https://localhost:5173",
        "http://127.0.0.1:3000",
        "http://0.0.0.0",
        "http://[::1]:8000",
        "app://obsidian.md",
        "tauri://localhost",
        "vscode-webview://abc",
        "vscode-file://vscode-app",
        "file://",
    ],
)
def test_pages_of_this_machine_and_desktop_applications_may_ask(api: Api, origin: str) -> None:
    response = api.post("/v1/chat/completions", CHAT, headers={"Origin": origin})
    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Origin"] == origin
    assert "Origin" in response.vary


@pytest.mark.parametrize(
    "origin",
    [
        "http://example.com",
        "https://localhost.example.com",
        "http://127.0.0.1.example.com",
        "http://example.com/localhost",
        "http://localhost@example.com",
        "chrome-extension://abc",
        "null",
        "http://[bad",
        "localhost",
    ],
)
def test_a_foreign_page_is_refused_before_anything_acts(api: Api, origin: str) -> None:
    response = api.post("/v1/chat/completions", CHAT, headers={"Origin": origin})
    assert response.status_code == 403
    assert response.json["error"]["type"] == "permission_error"
    assert "Access-Control-Allow-Origin" not in response.headers
    assert api.inference.requests == []


def test_a_page_that_this_server_itself_shows_may_ask(api: Api) -> None:
    api.configure(host="0.0.0.0")
    headers = {"Origin": "https://llm.example.com", "Host": "llm.example.com"}
    assert api.post("/v1/chat/completions", CHAT, headers=headers).status_code == 200


@pytest.mark.parametrize("allowed", ["https://example.com", "https://*.com", "*"])
def test_an_operator_may_allow_origins(api: Api, allowed: str) -> None:
    api.configure(allowed_origins=(allowed,))
    response = api.post("/v1/chat/completions", CHAT, headers={"Origin": "https://example.com"})
    assert response.headers["Access-Control-Allow-Origin"] == "https://example.com"


def test_a_preflight_is_answered_without_a_key(api: Api) -> None:
    api.configure(api_keys=("secret",))
    headers = {
        "Origin": "http://localhost:3000",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, x-stainless-arch",
    }
    response = api.client.options("/v1/chat/completions", headers=headers)
    assert response.status_code == 204
    assert response.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
    assert response.headers["Access-Control-Allow-Headers"] == "authorization, x-stainless-arch"
    assert response.headers["Access-Control-Allow-Methods"] == "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"
    assert response.headers["Access-Control-Max-Age"] == "43200"


def test_a_preflight_from_a_foreign_page_is_refused(api: Api) -> None:
    headers = {"Origin": "http://example.com", "Access-Control-Request-Method": "POST"}
    assert api.client.options("/v1/chat/completions", headers=headers).status_code == 403


@pytest.mark.parametrize(
    "host",
    [
        "localhost:8080",
        "127.0.0.1",
        "[::1]:8080",
        "192.168.1.7:8080",
        "10.0.0.1",
        "board.local",
        "x.localhost",
        "a.internal",
    ],
)
def test_names_of_this_machine_are_answered(api: Api, host: str) -> None:
    assert api.get("/v1/models", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["example.com", "evil_name.com:8080", "8.8.8.8", "[bad", "localhost.example.com", "a b"]
)
def test_a_foreign_name_on_loopback_is_refused(api: Api, host: str) -> None:
    assert api.get("/v1/models", headers={"Host": host}).status_code == 403


def test_an_operator_may_allow_names(api: Api) -> None:
    api.configure(allowed_hosts=("llm.example.com",))
    assert api.get("/v1/models", headers={"Host": "llm.example.com"}).status_code == 200


@pytest.mark.parametrize(("host", "peer"), [("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "203.0.113.5"), ("127.0.0.1", "")])
def test_names_are_only_checked_where_a_browser_of_this_machine_can_reach(api: Api, host: str, peer: str) -> None:
    api.configure(host=host)
    environ = {"REMOTE_ADDR": peer}
    assert api.get("/v1/models", headers={"Host": "example.com"}, environ_overrides=environ).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer second"},
        {"Authorization": "bearer second"},
        {"X-Api-Key": "second"},
        {"Authorization": "Bearer schlüssel".encode().decode("latin-1")},
    ],
)
def test_one_of_several_keys_is_enough(api: Api, headers: dict[str, str]) -> None:
    api.configure(api_keys=("first", "second", "schlüssel"))
    assert api.post("/v1/chat/completions", CHAT, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic first"},
        {"X-Api-Key": "firs"},
        {"Authorization": ""},
    ],
)
def test_without_a_right_key_nothing_acts(api: Api, headers: dict[str, str]) -> None:
    api.configure(api_keys=("first",))
    response = api.post("/v1/chat/completions", CHAT, headers=headers)
    assert response.status_code == 401
    assert response.json["error"]["code"] == "invalid_api_key"
    assert api.inference.requests == []


@pytest.mark.parametrize("path", ["/health", "/v1/health", "/ready"])
def test_probes_need_no_key(api: Api, path: str) -> None:
    api.configure(api_keys=("first",))
    assert api.get(path).status_code == 200


def test_any_key_is_taken_where_none_is_set(api: Api) -> None:
    assert api.post("/v1/chat/completions", CHAT, headers={"Authorization": "Bearer dummy"}).status_code == 200


def test_no_browser_guesses_a_type_or_frames_a_page(api: Api) -> None:
    for path in ("/health", "/v1/models", "/nowhere", "/docs/"):
        response = api.get(path)
        response.close()
        assert response.headers["X-Content-Type-Options"] == "nosniff", path
        if response.mimetype == "text/html":
            assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
            assert response.headers["X-Frame-Options"] == "DENY"
            assert response.headers["Referrer-Policy"] == "no-referrer"


def test_no_key_is_ever_said_again(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    api.configure(api_keys=("top-secret-key",))
    caplog.set_level("DEBUG")
    for headers in ({"Authorization": "Bearer top-secret-kez"}, {"X-Api-Key": "top-secret-key"}):
        for path in ("/v1/chat/completions", "/v1/models/load", "/nowhere"):
            response = api.post(path, {"model": 7}, headers=headers)
            assert "top-secret" not in response.text + str(response.headers)
    assert "top-secret" not in caplog.text
