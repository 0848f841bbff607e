"""How many schemas of a fixed battery a server fills, through each of its APIs, and what a token of such answers costs.

An answer counts as valid if it says that it is whole and a validator of our own finds it so; as wrong if it says so
and is not; as none if it is an error or says that it was cut.
"""

import argparse
import datetime
import json
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
from tqdm import tqdm

from scripts.benchmarks.client import Client, ServerError

BATTERY = Path(__file__).resolve().parents[2] / "tests" / "structured" / "battery.json"
MOST_TOKENS = 400

Case = dict[str, Any]


class Api(NamedTuple):
    """One way to ask: the path, the body for (model, prompt, schema), and what the reply says (text, whether whole)."""

    path: str
    body: Callable[[str, str, Any], dict[str, Any]]
    read: Callable[[Any], tuple[str, bool]]


class Outcome(NamedTuple):
    """`kind` is valid, wrong or none. `ratio`: seconds per token, in those of free text of the same length."""

    case: Case
    kind: str
    detail: str
    ratio: float | None


def _turns(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]


APIS = {
    "chat": Api(
        "/v1/chat/completions",
        lambda model, prompt, schema: {
            "model": model,
            "messages": _turns(prompt),
            "temperature": 0,
            "max_tokens": MOST_TOKENS,
            "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}},
        },
        lambda reply: (reply["choices"][0]["message"]["content"], reply["choices"][0]["finish_reason"] == "stop"),
    ),
    "responses": Api(
        "/v1/responses",
        lambda model, prompt, schema: {
            "model": model,
            "input": prompt,
            "temperature": 0,
            "max_output_tokens": MOST_TOKENS,
            "text": {"format": {"type": "json_schema", "name": "answer", "schema": schema}},
        },
        lambda reply: (reply["output"][-1]["content"][0]["text"], reply["status"] == "completed"),
    ),
    "anthropic": Api(
        "/v1/messages",
        lambda model, prompt, schema: {
            "model": model,
            "messages": _turns(prompt),
            "temperature": 0,
            "max_tokens": MOST_TOKENS,
            "output_config": {"format": {"type": "json_schema", "schema": schema}},
        },
        lambda reply: (reply["content"][-1]["text"], reply["stop_reason"] == "end_turn"),
    ),
    "ollama": Api(
        "/api/chat",
        lambda model, prompt, schema: {
            "model": model,
            "messages": _turns(prompt),
            "stream": False,
            "format": schema,
            "options": {"temperature": 0, "num_predict": MOST_TOKENS},
        },
        lambda reply: (reply["message"]["content"], reply["done_reason"] == "stop"),
    ),
}

_FORMATS: dict[str, Callable[[str], object]] = {
    "date": lambda text: re.fullmatch(r"\d{4}-\d\d-\d\d", text) and datetime.date.fromisoformat(text),
    "time": lambda text: datetime.time.fromisoformat(text.replace("Z", "+00:00")),
    "date-time": lambda text: "T" in text and datetime.datetime.fromisoformat(text.replace("Z", "+00:00")),
}


def add_to(subcommands: Any, server: argparse.ArgumentParser) -> None:
    """The subcommand `structured`."""
    about = "Fill the schemas of a battery through each API, and compare the time with that of free text."
    parser = subcommands.add_parser("structured", parents=[server], help=about, description=about)
    parser.add_argument("--model", help="the model (the loaded one)")
    parser.add_argument("--battery", type=Path, default=BATTERY, help="names, kinds, prompts, schemas (%(default)s)")
    parser.add_argument("--apis", choices=[*APIS], nargs="+", default=[*APIS], help="a part of them")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these schemas alone")
    parser.add_argument("--show", action="store_true", help="print every answer too")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Measure, then print a table."""
    client = Client(arguments.url, api_key=arguments.api_key)
    model = arguments.model or client.usual_model()
    cases = [
        case
        for case in json.loads(arguments.battery.read_text())
        if not arguments.only or case["name"] in arguments.only
    ]
    found: dict[str, list[Outcome]] = {}
    with tqdm(total=len(cases) * len(arguments.apis), leave=False, disable=None) as bar:
        for name in arguments.apis:
            found[name] = []
            for case in cases:
                outcome = _fill(client, model, APIS[name], case, timed=name == "chat")
                found[name].append(outcome)
                bar.update()
                if arguments.show or outcome.kind != "valid":
                    print(f"{name} {case['name']}: {outcome.kind} {outcome.detail}", flush=True)
    print(table(found))


def table(found: dict[str, list[Outcome]]) -> str:
    """The outcomes as Markdown: a row for each kind of schema."""
    first = next(iter(found.values()))
    kinds = dict.fromkeys(outcome.case["kind"] for outcome in first)
    lines = [f"| schemas | {' | '.join(found)} | time per token |", f"| --- |{' ---: |' * (len(found) + 1)}"]
    for kind in (*kinds, None):
        rows = [[one for one in outcomes if kind in (None, one.case["kind"])] for outcomes in found.values()]
        valid = " | ".join(f"{sum(one.kind == 'valid' for one in row)} of {len(row)}" for row in rows)
        ratios = [one.ratio for row in rows for one in row if one.ratio is not None]
        middle = f"{statistics.median(ratios):.2f}" if ratios else ""
        lines.append(f"| {kind or 'all'} | {valid} | {middle} |")
    wrong = sum(one.kind == "wrong" for outcomes in found.values() for one in outcomes)
    return "\n".join([*lines, "", f"Wrong documents that were called whole: {wrong}."])


def _fill(client: Client, model: str, api: Api, case: Case, *, timed: bool) -> Outcome:
    reply = client.ask(client.request("POST", api.path, api.body(model, case["prompt"], case["schema"])))
    if reply.status >= 400:
        return Outcome(case, "none", reply.body.decode(errors="replace")[:300], None)
    text, whole = api.read(reply.json)
    ratio = _ratio(client, model, case, reply.ended_at - reply.sent_at, reply.json["usage"]) if timed else None
    flaw = flaw_of(text, case["schema"])
    return Outcome(case, "none" if not whole else "wrong" if flaw else "valid", flaw or text, ratio)


def _ratio(client: Client, model: str, case: Case, taken: int, usage: dict[str, Any]) -> float:
    """What a token took in this answer, in what one takes in free text of the same length."""
    body = {"model": model, "messages": _turns(case["prompt"]), "temperature": 0}
    reply = client.ask(
        client.request("POST", "/v1/chat/completions", body | {"max_tokens": usage["completion_tokens"]})
    )
    if reply.status >= 400:
        raise ServerError(reply.body.decode(errors="replace"))
    free = (reply.ended_at - reply.sent_at) / reply.json["usage"]["completion_tokens"]
    return float(taken / usage["completion_tokens"] / free)


def flaw_of(text: str, schema: Any) -> str | None:
    """Why the text is no document by the schema."""
    checker = jsonschema.FormatChecker(formats=())
    for name, parse in _FORMATS.items():
        checker.checks(name, raises=ValueError)(lambda value, parse=parse: not isinstance(value, str) or parse(value))
    try:
        jsonschema.Draft202012Validator(schema, format_checker=checker).validate(json.loads(text))
    except (ValueError, jsonschema.ValidationError) as error:
        return f"{str(error).splitlines()[0]}: {text}"
    return None
