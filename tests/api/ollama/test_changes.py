"""Copy, create and delete."""

from typing import Any

import pytest

from rkllama_flask.errors import QueueFull
from tests.api.ollama.conftest import OllamaApi
from tests.api.ollama.reading import read_lines
from tests.contract.ollama_spec import check


def names(api: OllamaApi) -> set[str]:
    return {model["name"] for model in api.get("/api/tags").json["models"]}


def error(response: Any) -> tuple[int, str]:
    assert set(response.json) == {"error"}
    return response.status_code, response.json["error"]


def create(api: OllamaApi, **fields: Any) -> Any:
    response = api.post("/api/create", {"model": "new", "from": "tiny"} | fields)
    assert response.status_code == 200, response.text
    return response


def shown(api: OllamaApi, name: str = "new") -> Any:
    return api.post("/api/show", {"model": name}).json


# Copy and delete


def test_a_copy_is_another_name_for_the_same_weights(api: OllamaApi) -> None:
    response = api.post("/api/copy", {"source": "tuned", "destination": "org/other:v1"})
    assert (response.status_code, response.data) == (200, b"")
    assert names(api) == {"tiny:latest", "tuned:latest", "org/other:v1"}
    assert shown(api, "org/other:v1")["system"] == "Be brief."
    assert len(list(api.models_dir.glob("**/*.rkllm"))) == 1


def test_a_copy_onto_itself_changes_nothing(api: OllamaApi) -> None:
    assert api.post("/api/copy", {"source": "tiny", "destination": "TINY:latest"}).status_code == 200
    assert names(api) == {"tiny:latest", "tuned:latest"}


def test_copies_that_are_refused(api: OllamaApi) -> None:
    def copy(source: str, destination: str) -> tuple[int, str]:
        return error(api.post("/api/copy", {"source": source, "destination": destination}))

    assert copy("nope", "new") == (404, 'model "nope" not found')
    assert copy("../x", "new") == (400, 'source "../x" is invalid')
    assert copy("tiny", "../x") == (400, 'destination "../x" is invalid')
    assert copy("", "new") == (400, 'source "" is invalid')
    assert copy("tiny", "") == (400, 'destination "" is invalid')


def test_a_deleted_name_is_gone_and_the_weights_stay_while_another_has_them(api: OllamaApi) -> None:
    api.inference.loaded = [api.catalog.find("tuned")]
    response = api.client.delete("/api/delete", json={"model": "tuned"})
    assert (response.status_code, response.data) == (200, b"")
    assert names(api) == {"tiny:latest"}
    assert api.inference.moves == []


def test_memory_is_freed_when_no_name_has_the_weights_any_more(api: OllamaApi) -> None:
    api.client.delete("/api/delete", json={"name": "tuned"})
    api.inference.loaded = [api.catalog.find("tiny")]
    assert api.client.delete("/api/delete", json={"name": "tiny"}).status_code == 200
    assert api.inference.moves == [("unload", "tiny")]
    assert names(api) == set()


def test_a_deleted_name_takes_its_prompt_caches_along(api: OllamaApi) -> None:
    api.client.delete("/api/delete", json={"model": "TUNED:latest"})
    assert api.inference.caches.emptied == ["tuned"]
    api.client.delete("/api/delete", json={"model": "nope"})
    assert api.inference.caches.emptied == ["tuned"]


def test_a_model_is_deleted_also_while_too_many_wait_for_the_runtime(
    api: OllamaApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Any) -> list[str]:
        raise QueueFull("64 requests are waiting already.")

    api.client.delete("/api/delete", json={"name": "tuned"})
    api.inference.loaded = [api.catalog.find("tiny")]
    monkeypatch.setattr(api.inference, "unload", full)
    assert api.client.delete("/api/delete", json={"name": "tiny"}).status_code == 200


def test_deletions_that_are_refused(api: OllamaApi) -> None:
    def delete(**body: Any) -> tuple[int, str]:
        return error(api.client.delete("/api/delete", json=body or {"x": 1}))

    assert delete() == (400, "model is required")
    assert delete(model="nope") == (404, "model 'nope' not found")
    assert delete(model="../x") == (400, 'name "../x" is invalid')


# Create


def test_a_model_is_made_of_one_that_is_here(api: OllamaApi) -> None:
    response = create(
        api,
        system="You are a pirate.",
        template="{{ messages }}",
        parameters={"temperature": 0.1, "stop": ["a", "b"], "seed": None},
        messages=[{"role": "User", "content": "Ahoy"}],
        license=["MIT", "and more"],
    )
    assert response.content_type == "application/x-ndjson"
    lines = read_lines(response.data)
    for line in lines:
        check(line, "StatusEvent")
    assert lines[-1] == {"status": "success"}
    made = shown(api)
    assert made["system"] == "You are a pirate."
    assert made["template"] == "{{ messages }}"
    assert made["license"] == "MIT\nand more"
    assert made["messages"] == [{"role": "user", "content": "Ahoy"}]
    assert 'stop                           "a"' in made["parameters"]
    assert len(list(api.models_dir.glob("**/*.rkllm"))) == 1


def test_an_answer_in_one_object(api: OllamaApi) -> None:
    response = create(api, stream=False)
    assert response.json == {"status": "success"}


def test_a_modelfile_as_text_with_fields_that_go_before_it(api: OllamaApi) -> None:
    text = "FROM tiny\nSYSTEM From the text.\nPARAMETER temperature 0.2\n"
    create(api, **{"from": None}, modelfile=text, parameters={"top_k": 3})
    made = shown(api)
    assert made["system"] == "From the text."
    assert "temperature" in made["parameters"]
    assert "top_k" in made["parameters"]
    create(api, modelfile=text, system="From the field.")
    assert shown(api)["system"] == "From the field."


def test_what_the_base_says_goes_on(api: OllamaApi) -> None:
    create(api, **{"from": "tuned"}, parameters={"temperature": 0})
    made = shown(api)
    assert made["system"] == "Be brief."
    assert "num_predict" in made["parameters"]


@pytest.mark.parametrize(
    ("fields", "status", "text"),
    [
        ({"model": ""}, 400, "invalid model name"),
        ({"model": "../x"}, 400, "invalid model name"),
        ({"from": ""}, 400, "neither 'from' or 'files' was specified"),
        ({"from": "nope"}, 404, "model 'nope' not found"),
        ({"quantize": "q4_K_M"}, 400, "models can't be quantized here: it is done when they are converted"),
    ],
)
def test_creations_that_are_refused(api: OllamaApi, fields: dict[str, Any], status: int, text: str) -> None:
    body = {"model": "new", "from": "tiny"} | fields
    assert error(api.post("/api/create", body)) == (status, text)
    assert names(api) == {"tiny:latest", "tuned:latest"}


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"template": "{{ .System }}"}, "Go's template language"),
        ({"parameters": {"temperature": "hot"}}, "temperature"),
        ({"parameters": {"unheard_of": 1}}, "unheard_of"),
        ({"modelfile": "FRMO tiny"}, "line 1"),
        ({"modelfile": 'SYSTEM """open'}, "never closed"),
        ({"model": "tiny", "from": "other"}, "not found"),
        ({"from": "/etc/passwd"}, "invalid"),
        ({"from": "../../etc/passwd"}, "invalid"),
        ({"from": "./nope.gguf"}, "there is no file './nope.gguf' in the models folder"),
    ],
)
def test_refusals_say_what_is_wrong(api: OllamaApi, fields: dict[str, Any], part: str) -> None:
    status, text = error(api.post("/api/create", {"model": "new", "from": "tiny"} | fields))
    assert status in (400, 404)
    assert part in text


def test_fields_that_change_nothing_here_are_named(api: OllamaApi) -> None:
    response = create(api, renderer="qwen3", parser="", requires="0.12")
    assert response.headers["X-Unapplied-Parameters"] == "renderer, requires"


def test_what_changes_nothing_is_named_wherever_it_is_said(api: OllamaApi) -> None:
    text = "FROM tiny\nRENDERER qwen3-coder\nPARAMETER use_mlock true\nPARAMETER top_k 7\n"
    response = create(api, modelfile=text, parameters={"low_vram": True, "temperature": 0.5})
    assert response.headers["X-Unapplied-Parameters"] == "RENDERER, use_mlock, low_vram"
    shown = api.post("/api/show", {"model": "new"}).json
    assert "top_k" in shown["parameters"]
    assert "temperature" in shown["parameters"]
    assert "low_vram" not in shown["parameters"]


def test_a_file_that_no_header_can_name_is_named_by_its_word(api: OllamaApi) -> None:
    response = create(api, modelfile="FROM tiny\nFROM ./漢-mmproj.gguf")
    assert response.headers["X-Unapplied-Parameters"] == "FROM"


# What needs a registry


def test_push_is_refused_plainly(api: OllamaApi) -> None:
    assert error(api.post("/api/push", {"name": "tiny"}))[0] == 400
    assert "registry" in error(api.post("/api/push", {"model": "tiny"}))[1]
    assert error(api.post("/api/push", {"x": 1})) == (400, "model is required")
    assert error(api.post("/api/push", {"model": "nope"})) == (404, "model 'nope' not found")
