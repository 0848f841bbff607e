"""The page at `/ui`, used in a headless Chromium as a person would."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys

from rkllama_flask.api.openapi import examples as openapi_examples
from tests.api.browser import MISSING, Page, open_browser
from tests.api.conftest import Api
from tests.conftest import scripted_library
from tests.hub import serve_hub
from tests.serving import ROOT, Server, start_server

in_browser = pytest.mark.skipif(bool(MISSING), reason=MISSING)

FILES = ROOT / "rkllama_flask" / "api" / "ui_page"
KEY = "the-key"
MODEL = openapi_examples.MODEL
THINKER = "qwen3-0.6b"
MARKUP = "<img src=x onerror=window.broken=1><script>window.broken=1</script>"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Wants a key, has two models and a hub with a third, and one file with a hostile name."""
    folder = tmp_path_factory.mktemp("ui")
    models = {
        f"{MODEL}.rkllm": "load_ms=0",
        "Qwen3-0.6B-rk3588-w8a8.rkllm": "load_ms=0",
        "<img src=x onerror=window.broken=1>.rkllm": "load_ms=0",
    }
    with serve_hub() as hub:
        hub.repos = {"org/Qwen3-1.7B-rkllm": {"Qwen3-1.7B-rk3588-w8a8.rkllm": b"load_ms=0\n" + b"#" * 3000}}
        hub_settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "hf"), "HF_TOKEN": "", "NO_PROXY": "127.0.0.1"}
        env = hub_settings | {"NPU_PLATFORM": "rk3588", "API_KEYS": KEY, "DEFAULT_MODEL": MODEL}
        server = start_server(folder, library=scripted_library("1.3"), models=models, env=env)
        yield server
        server.stop()


@pytest.fixture(scope="module")
def browser(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with open_browser(tmp_path_factory.mktemp("chromium")) as page:
        yield page


@pytest.fixture
def page(browser: Page, server: Server) -> Iterator[Page]:
    """The chat, anew, of someone who has entered the key."""
    browser.go(f"{server.url}/ui/nothing-is-here")
    browser.run("sessionStorage.setItem('rkllama-key', arguments[0])", KEY)
    show(browser, server, "chat")
    yield browser
    assert browser.complaints() == []
    assert browser.run("return window.broken") is None


def show(page: Page, server: Server, part: str) -> None:
    page.go("about:blank")
    page.go(f"{server.url}/ui/#{part}")
    page.find(f"#{part}")


def say(page: Page, text: str) -> None:
    page.until(lambda _: page.all("#chat-model option"), "the models")
    page.write("#chat-input", text + Keys.ENTER)


def script(text: str, **more: object) -> str:
    """A prompt that the runtime answers with this text."""
    encoded = "".join(f"%{byte:02x}" for byte in text.encode())
    return f"<<script text={encoded} {' '.join(f'{key}={value}' for key, value in more.items())}>>"


@in_browser
def test_who_has_no_key_is_told_and_can_enter_one(browser: Page, server: Server) -> None:
    show(browser, server, "models")
    browser.find("#models-notice .notice", "Choose “API key” above to enter yours")
    browser.click("#key-button")
    browser.write("#key-input", KEY + Keys.ENTER)
    browser.find("#models-list .card", MODEL)
    assert browser.run("return localStorage.length") == 0
    assert browser.complaints() == []


@in_browser
def test_an_answer_is_streamed_and_told_in_figures(page: Page) -> None:
    say(page, script("one two three four", decode_ms=40))
    page.find(".turn.user", "script text")
    page.find("#chat-stop")
    page.find(".assistant .text", "one")
    page.find(".assistant .foot", "tokens/s")
    assert page.find(".assistant .text").text == "one two three four"
    page.find("#chat-send")
    page.until(lambda _: page.find("#chat-input").get_attribute("value") == "", "an empty field")
    assert "complete" in page.run("return document.getElementById('announcer').textContent")


@in_browser
def test_an_answer_can_be_copied_without_tls_too(page: Page) -> None:
    page.run("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    say(page, script("take this along"))
    page.click(".assistant .foot button", "Copy")
    page.find(".assistant .foot button", "Copied")


@in_browser
def test_a_conversation_is_sent_whole(page: Page) -> None:
    say(page, script("blue"))
    page.find(".assistant .foot", "tokens")
    say(page, "and again <<script echo=1>> [[second]]")
    page.find(".assistant .text", "second")
    assert len(page.all(".turn")) == 4


@in_browser
def test_an_answer_can_be_stopped(page: Page, server: Server) -> None:
    say(page, "<<script tokens=3000 decode_ms=10>>")
    page.find(".assistant .text", "w3")
    page.click("#chat-stop")
    page.find(".assistant .foot", "Stopped.")
    say(page, script("free again"))
    page.find(".assistant .text", "free again")


@in_browser
def test_nothing_of_an_answer_that_was_left_is_in_the_next_conversation(page: Page) -> None:
    say(page, "<<script tokens=3000 decode_ms=10>>")
    page.find(".assistant .text", "w3")
    page.click("#chat-new")
    page.find("#chat-send")
    page.run("const send = fetch; window.sent = []; window.fetch = (url, how) => (sent.push(how.body), send(url, how))")
    say(page, script("afresh"))
    page.find(".assistant .text", "afresh")
    bodies = [json.loads(body) for body in page.run("return sent") if body and "stream_options" in body]
    assert [[message["role"] for message in body["messages"]] for body in bodies] == [["user"]]


@in_browser
def test_the_model_can_be_switched(page: Page) -> None:
    page.until(lambda _: len(page.all("#chat-model option")) >= 2, "both models")
    page.run("document.getElementById('chat-model').value = arguments[0]", THINKER)
    say(page, script("I am another"))
    page.find(".assistant .who", THINKER)
    page.find(".assistant .text", "I am another")
    page.find("#chat-model", f"{THINKER} (loaded)")


@in_browser
def test_thoughts_are_folded(page: Page) -> None:
    page.run("document.getElementById('chat-model').value = arguments[0]", THINKER)
    say(page, script("<think>\nfirst this, then that\n</think>\n\nDone."))
    page.find(".assistant .text", "Done.")
    summary = page.find(".assistant summary", "Thoughts")
    assert page.find(".assistant").text.count("first this") == 0
    summary.click()
    page.find(".assistant .thoughts", "first this, then that")


@in_browser
def test_a_tool_call_is_readable_and_its_result_can_be_sent(page: Page) -> None:
    page.run("document.getElementById('chat-model').value = arguments[0]", THINKER)
    page.click("#chat-options-button")
    tools = '[{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]'
    page.write("#chat-tools", tools)
    page.click("#chat-options-button")
    call = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
    say(page, script(call))
    assert '"city": "Oslo"' in page.find(".call", "Calls weather").text
    end = "const at = document.getElementById('chat-scroll'); return at.scrollHeight - at.scrollTop - at.clientHeight"
    page.until(lambda _: page.run(end) < 2, "the end of the conversation")
    page.write(".call textarea", script("It rains."))
    page.click(".call button", "Send the result")
    page.find(".assistant .text", "It rains.")
    page.find(".turn.tool", "Result")


@in_browser
def test_what_a_model_says_never_becomes_markup(page: Page) -> None:
    say(page, script(f"{MARKUP}\n\n**{MARKUP}**\n\n- `{MARKUP}`\n\n```html\n{MARKUP}\n```\n\n# {MARKUP}"))
    text = page.find(".assistant .text", "onerror")
    assert text.text.count("<script>window.broken=1</script>") == 5
    page.find(".assistant .foot", "tokens")
    assert page.all("#view img, #view script") == []
    assert page.find(".assistant figure pre").text == MARKUP
    assert page.find(".assistant strong").text == MARKUP


@in_browser
def test_names_never_become_markup(page: Page, server: Server) -> None:
    say(page, MARKUP)
    page.find(".turn.user", "onerror")
    show(page, server, "models")
    page.find("#models-list .card", MODEL)
    page.write("#pull-name", MARKUP + Keys.ENTER)
    page.find("#models-notice .notice")
    assert page.all("#view img, #view script") == []


@in_browser
def test_what_goes_wrong_is_said_and_can_be_tried_again(page: Page) -> None:
    say(page, "<<script tokens=9 fail=3>>")
    page.find(".assistant .notice.bad")
    page.click(".assistant .notice button", "Try again")
    page.find(".assistant .notice.bad")
    assert len(page.all(".assistant")) == 1
    page.click("#chat-new")
    assert page.all(".turn") == []


@in_browser
def test_a_server_that_is_gone_is_said_to_be(page: Page) -> None:
    page.until(lambda _: page.all("#chat-model option"), "the models")
    offline = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    page.driver.execute_cdp_cmd("Network.enable", {})
    page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    try:
        say(page, "anybody there?")
        page.find(".assistant .notice.bad", "can't be reached")
        page.find("#pill-text", "Not reachable")
    finally:
        page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline | {"offline": False})
    page.click(".assistant .notice button", "Try again")
    page.find(".assistant .text")


@in_browser
def test_models_are_loaded_and_unloaded(page: Page, server: Server) -> None:
    show(page, server, "models")
    page.find("#models-list .card")
    if page.all(f"[aria-label='Load {THINKER}']"):
        page.click(f"[aria-label='Load {THINKER}']")
    page.find(".card .name", f"{THINKER}\nloaded")
    page.click(f"[aria-label='Unload {THINKER}']")
    page.find(f"[aria-label='Load {THINKER}']")
    assert server.get("/v1/models/loaded", headers={"X-Api-Key": KEY}).json()["loaded"] is False


@in_browser
def test_a_model_is_fetched(page: Page, server: Server) -> None:
    show(page, server, "models")
    page.write("#pull-name", "org/Qwen3-1.7B-rkllm" + Keys.ENTER)
    page.find("#models-notice .notice.good", "is here")
    page.find("#models-list .card", "qwen3-1.7b")


@in_browser
def test_a_cache_is_made_used_and_deleted(page: Page, server: Server) -> None:
    show(page, server, "caches")
    page.find("#caches-list .empty")
    page.run("document.getElementById('cache-model').value = arguments[0]", MODEL)
    page.write("#cache-name", "system")
    page.write("#cache-prompt", "You answer briefly. " * 20)
    page.click("#cache-make")
    page.find("#caches-list .card", "loading")
    page.run("location.hash = 'chat'")
    page.run("document.getElementById('chat-model').value = arguments[0]", MODEL)
    page.click("#chat-options-button")
    page.until(lambda _: len(page.all("#chat-cache option")) == 2, "the cache")
    page.run("document.getElementById('chat-cache').value = 'system'")
    page.click("#chat-options-button")
    say(page, script("short"))
    page.find(".assistant .foot", "prompt tokens from a cache")
    page.run("location.hash = 'caches'")
    page.click("[aria-label='Delete system']")
    page.run("history.back()")
    page.until(lambda _: not page.all("dialog[open]"), "the question to go with its page")
    page.run("location.hash = 'caches'")
    page.click("[aria-label='Delete system']")
    page.click("#ask-yes")
    page.find("#caches-list .empty")
    assert server.get("/v1/cache", headers={"X-Api-Key": KEY}).json()["count"] == 0


@in_browser
def test_the_status_is_live(page: Page, server: Server) -> None:
    show(page, server, "status")
    page.find(".tile", "Ready")
    page.find(".tile", "tokens/s")
    page.find(".tile", "free")
    server.post("/v1/models/load", {"model": MODEL}, headers={"X-Api-Key": KEY})
    page.find("#status-models .card", MODEL)


@in_browser
def test_the_page_fits_a_phone(page: Page, server: Server) -> None:
    page.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 720, "deviceScaleFactor": 1, "mobile": True}
    )
    try:
        for part in ("chat", "models", "caches", "status"):
            show(page, server, part)
            page.find("#pill-text", "Ready")
            assert page.run("return document.documentElement.scrollWidth") == 360, part
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@in_browser
def test_every_control_has_a_name(page: Page, server: Server) -> None:
    unnamed = """return [...document.querySelectorAll("input, select, textarea, button")]
        .filter((one) => !one.labels?.length && !one.textContent.trim() && !one.ariaLabel)
        .map((one) => one.outerHTML)"""
    assert page.run(unnamed) == []


@in_browser
def test_the_documentation_tries_a_request_out(browser: Page, server: Server) -> None:
    browser.go(f"{server.url}/docs")
    browser.click(".btn.authorize")
    browser.write(".auth-container input", KEY)
    browser.click(".auth-btn-wrapper .authorize")
    browser.click(".btn-done")
    browser.click("[id$='create_chat_completion'] .opblock-summary-control")
    browser.click(".btn.execute")
    browser.find(".live-responses-table .response-col_status", "200")
    browser.find(".live-responses-table", "chat.completion")
    assert browser.complaints() == []


# Without a browser


def test_the_page_runs_only_files_of_its_own(api: Api) -> None:
    with api.get("/ui/") as response:
        policy = response.headers["Content-Security-Policy"]
        markup = response.text
    assert "unsafe" not in policy
    assert "require-trusted-types-for 'script'" in policy
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?! type=\"module\" src)|https?://", markup)
    for name in {*re.findall(r'(?:href|src)="([\w.-]+)"', markup), *(file.name for file in FILES.iterdir())}:
        with api.get(f"/ui/{name}") as asset:
            assert asset.status_code == 200, name


def test_no_file_of_the_page_turns_text_into_markup_or_asks_elsewhere() -> None:
    for file in FILES.glob("*.js"):
        found = re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|https?://", file.read_text())
        assert found is None, file.name


def test_the_root_is_still_what_programs_look_for(api: Api) -> None:
    response = api.get("/", headers={"Accept": "text/html"})
    assert (response.text, response.content_type) == ("Ollama is running", "text/plain; charset=utf-8")


def test_the_page_needs_no_key_and_nothing_beside_it_is_served(api: Api) -> None:
    api.configure(api_keys=("secret",))
    with api.get("/ui", follow_redirects=True) as response:
        assert response.status_code == 200
    for path in ("/ui/../ui.py", "/ui/%2e%2e/ui.py", "/ui//etc/passwd", "/ui/nothing"):
        with api.get(path, follow_redirects=True) as response:
            assert response.status_code in (401, 404), path
    assert Path(FILES.parent / "ui.py").is_file()
