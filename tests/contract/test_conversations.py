"""Real clients hold a long conversation with calls, and nothing of it is lost on the way, in any family's template.

Each client talks to one of the families for a few turns, and to one whose way of writing calls only its own template
tells. `CONVERSATION_TURNS=30` lets each talk to all of them for so
many, on both families of the runtime.
"""

import os
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import pairwise

import pytest

from tests.conftest import scripted_library
from tests.contract.conversations import (
    FOUND,
    TEMPLATES,
    WAYS,
    WITHOUT_TOOLS,
    as_template_writes,
    find_in_order,
    set_stage,
    texts_of,
)
from tests.contract.talkers import CLIENTS, Talk, ollama_chat
from tests.native import journal
from tests.serving import Server, start_server

if find_spec("pydantic_ai"):
    from tests.contract.agent import pydantic_agent

    TALKERS: tuple[Talk, ...] = (*CLIENTS, pydantic_agent)
else:
    TALKERS = CLIENTS

LONG = int(os.environ.get("CONVERSATION_TURNS", "0"))
MODELS = [*WAYS, *FOUND]
PAIRS = [
    (talk, model)
    for number, talk in enumerate(TALKERS)
    for families in (list(WAYS), list(FOUND))
    for model in (families if LONG else families[number % len(families) :][:1])
    if talk is not ollama_chat or model not in WITHOUT_TOOLS
]


@pytest.fixture(scope="module", params=["1.3", "1.2"] if LONG else ["1.3"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("conversations")
    for name in MODELS:
        (folder / "models" / name).mkdir(parents=True)
        (folder / "models" / name / "Modelfile").write_text(f"FROM {name}.rkllm\nPARAMETER num_ctx 16384\n")
        if template := TEMPLATES.get(name) or FOUND.get(name):
            (folder / "models" / name / "chat_template.jinja").write_text(template)
    models = {f"{name}/{name}.rkllm": "context_limit=16384" for name in MODELS}
    env = {"MAX_LOADED_MODELS": str(len(MODELS)), "KEEP_ALIVE": "-1"}
    server = start_server(folder, library=scripted_library(request.param), models=models, env=env)
    yield server
    server.end()


@pytest.mark.parametrize(("talk", "model"), PAIRS, ids=lambda one: one if isinstance(one, str) else one.__name__)
def test_a_conversation_with_calls_reaches_client_and_model_whole(server: Server, talk: Talk, model: str) -> None:
    stage = set_stage(WAYS.get(model) or as_template_writes(FOUND[model]), turns=LONG or 7)
    before = len(server.calls)
    said = list(talk(server.url, model, stage))

    assert [one.answer for one in said] == [turn.answer for turn in stage.turns]
    assert stage.made == stage.expected()

    entries = journal.parse(server.calls[before:])
    prompts = [entry["prompt"] or "" for entry in entries if entry.what == "run"]
    assert len(prompts) == sum(len(turn.rounds) + 1 for turn in stage.turns)
    assert find_in_order(prompts[-1], texts_of(stage)) is None

    reused = [int(entry.number("matched")) for entry in entries if entry.what == "prefill"]
    told = [count for one in said for count in one.cached or ()]
    assert told in ([], reused)
    asked = [sum(len(turn.rounds) + 1 for turn in stage.turns[:number]) for number in range(len(stage.turns))]
    assert all(reused[one] < reused[other] for one, other in pairwise(asked[1:]))
