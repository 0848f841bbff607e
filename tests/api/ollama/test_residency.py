"""Which models are loaded: by an empty prompt, for how long, and how `/api/ps` shows them."""

import math
import time
from datetime import datetime
from typing import Any

import pytest

from rkllama_flask.errors import ModelUnusable
from tests.api.ollama.conftest import OllamaApi
from tests.api.ollama.reading import LOCAL, check_answer
from tests.contract.ollama_spec import check

EMPTY: list[tuple[str, dict[str, Any]]] = [
    ("generate", {}),
    ("generate", {"prompt": ""}),
    ("generate", {"raw": True}),
    ("chat", {}),
    ("chat", {"messages": []}),
]


def ask(api: OllamaApi, kind: str, **fields: Any) -> Any:
    response = api.post(f"/api/{kind}", {"model": "tiny"} | fields)
    assert response.status_code == 200, response.text
    assert response.content_type.startswith("application/json")
    check_answer(response.json, kind.capitalize())
    assert response.json["done"] is True
    return response.json


@pytest.mark.parametrize(("kind", "fields"), EMPTY)
def test_an_empty_request_loads_the_model_and_answers_with_one_object(
    api: OllamaApi, kind: str, fields: dict[str, Any]
) -> None:
    body = ask(api, kind, stream=True, **fields)
    assert body["done_reason"] == "load"
    assert api.inference.moves == [("load", "tiny", None, None)]
    if kind == "chat":
        assert body["message"] == {"role": "assistant", "content": ""}
    else:
        assert body["response"] == ""


@pytest.mark.parametrize(("kind", "fields"), EMPTY)
@pytest.mark.parametrize("nothing", [0, 0.0, "0", "0s", "-0"])
def test_with_a_keep_alive_of_nothing_it_unloads(
    api: OllamaApi, kind: str, fields: dict[str, Any], nothing: Any
) -> None:
    assert ask(api, kind, keep_alive=nothing, **fields)["done_reason"] == "unload"
    assert api.inference.moves == [("unload", "tiny")]


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (90, 90),
        (0.5, 0.5),
        ("300ms", 0.3),
        ("1h30m", 5400),
        ("1.5h", 5400),
        (".5s", 0.5),
        ("+5m", 300),
        ("10us", 1e-5),
        ("10\u00b5s", 1e-5),
        (-1, math.inf),
        ("-1m", math.inf),
        ("-1ns", math.inf),
        (1e300, math.inf),
        (10**400, math.inf),
        ("2000000h", math.inf),
        (None, None),
    ],
)
def test_how_long_it_stays(api: OllamaApi, said: Any, seconds: float | None) -> None:
    ask(api, "chat", keep_alive=said)
    assert api.inference.moves == [("load", "tiny", pytest.approx(seconds), None)]


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("5", 'time: missing unit in duration "5"'),
        ("5m5", 'time: missing unit in duration "5m5"'),
        ("1d", 'time: unknown unit "d" in duration "1d"'),
        ("m", 'time: invalid duration "m"'),
        (".s", 'time: invalid duration ".s"'),
        ("-", 'time: invalid duration "-"'),
        ("--1s", 'time: invalid duration "--1s"'),
        ("3000000h", 'time: invalid duration "3000000h"'),
        ("١s", 'time: invalid duration "١s"'),
        ([], "Unsupported type: 'list'"),
    ],
)
def test_what_is_no_duration(api: OllamaApi, said: Any, text: str) -> None:
    response = api.post("/api/chat", {"model": "tiny", "keep_alive": said})
    assert (response.status_code, response.json) == (400, {"error": text})
    assert api.inference.moves == []


def test_a_model_is_loaded_with_the_context_that_is_asked_for(api: OllamaApi) -> None:
    ask(api, "generate", options={"num_ctx": 1024, "seed": 1})
    ask(api, "generate", options={"num_ctx": 100_000})
    assert [move[3] for move in api.inference.moves] == [1024, 4096]


def test_a_model_that_cannot_be_loaded_says_why(api: OllamaApi) -> None:
    api.inference.early = ModelUnusable("This file is for RK3576.")
    response = api.post("/api/generate", {"model": "tiny"})
    assert (response.status_code, response.json) == (422, {"error": "This file is for RK3576."})


def test_loaded_models_with_the_one_that_stays_longest_first(api: OllamaApi) -> None:
    now = time.time()
    api.inference.loaded = [api.catalog.find("tuned"), api.catalog.find("tiny")]
    api.inference.expires = {"tuned": now + 300}
    body = api.get("/api/ps").json
    check(body, "PsResponse")
    staying, expiring = body["models"]
    assert staying["name"] == staying["model"] == "tiny:latest"
    assert expiring["name"] == "tuned:latest"
    assert all(LOCAL.fullmatch(model["expires_at"]) for model in body["models"])
    assert datetime.fromisoformat(expiring["expires_at"]).timestamp() == pytest.approx(now + 300, abs=0.01)
    assert datetime.fromisoformat(staying["expires_at"]).year > datetime.now().year + 200
    assert staying["size"] == staying["size_vram"] == len(b"weights")
    assert staying["context_length"] == 4096
    assert staying["details"]["format"] == "rkllm"


def test_nothing_is_loaded(api: OllamaApi) -> None:
    assert api.get("/api/ps").json == {"models": []}


def test_a_model_that_is_being_loaded_is_listed_once(api: OllamaApi) -> None:
    api.inference.arriving = api.catalog.find("tiny")
    for _ in range(2):
        (shown,) = api.get("/api/ps").json["models"]
        check(shown, "Ps")
        assert (shown["name"], shown["context_length"]) == ("tiny:latest", 4096)
        assert 200 < datetime.fromisoformat(shown["expires_at"]).timestamp() - time.time() <= 300
        api.inference.loaded = [api.catalog.find("tiny")]
        api.inference.expires["tiny"] = time.time() + 300
