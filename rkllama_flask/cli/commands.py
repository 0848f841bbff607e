"""What each command does; every one takes the client and the parsed arguments, and raises Failed."""

import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from rkllama_flask.catalog.reading.listing import is_weights
from rkllama_flask.cli.chat import Conversation, converse
from rkllama_flask.cli.client import Client, Failed, NotThere
from rkllama_flask.cli.output import day, left, size, table
from rkllama_flask.cli.progress import follow
from rkllama_flask.cli.upload import local_files, upload


def list_models(client: Client, _: Namespace) -> None:
    rows = []
    for model in client.ask("GET", "/api/tags")["models"]:
        details = model["details"]
        known = (details["parameter_size"], details["quantization_level"], str(details.get("context_length", "")))
        rows.append((model["name"], size(model["size"]), *(value or "-" for value in known), day(model["modified_at"])))
    print(table(("NAME", "SIZE", "PARAMETERS", "QUANTIZATION", "CONTEXT", "MODIFIED"), rows))


def list_loaded(client: Client, _: Namespace) -> None:
    rows = []
    for model in client.ask("GET", "/api/ps")["models"]:
        where = "NPU" if model["details"]["format"] == "rkllm" else "CPU"
        stays = left(model["expires_at"])
        rows.append((model["name"], size(model["size"]), where, str(model["context_length"]), stays))
    print(table(("NAME", "SIZE", "ON", "CONTEXT", "STAYS"), rows))


def show(client: Client, arguments: Namespace) -> None:
    shown = client.ask("POST", "/api/show", {"model": arguments.model})
    if arguments.part:
        print(shown.get(arguments.part, ""))
        return
    details, info = shown["details"], shown["model_info"]
    facts: list[tuple[str, Any]] = [
        ("architecture", info.get("general.architecture") or details["family"]),
        ("parameters", details["parameter_size"]),
        ("quantization", details["quantization_level"]),
        ("context", details.get("context_length")),
        ("embedding", details.get("embedding_length")),
        ("format", details["format"]),
        ("capabilities", ", ".join(shown["capabilities"])),
        ("calls", _reading(shown["turns"])),
        ("modified", day(shown["modified_at"])),
    ]
    print("\n".join(f"{name:<14}{value}" for name, value in facts if value))
    for part in ("parameters", "system", "license"):
        if shown.get(part):
            print(f"\n{part}\n{_indented(shown[part])}")


def _reading(turns: dict[str, str]) -> str:
    """How the model's tool calls are read."""
    told = {
        "found": "read as its template writes them",
        "named": "read in one of the ways that are known",
        "none": "its template writes none",
        "unread": "not all read",
    }[turns["calls"]]
    return f"{told}: {turns['why']}" if "why" in turns else told


def pull(client: Client, arguments: Namespace) -> None:
    follow(client.stream("/api/pull", {"model": arguments.model}))


def create(client: Client, arguments: Namespace) -> None:
    path = Path(arguments.file)
    try:
        if is_weights(path.name):
            text = f'FROM """{path.name}"""'
        else:
            text = sys.stdin.read() if arguments.file == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Failed(f"{path} can't be read: {error}. Name the Modelfile with -f.") from error
    local = local_files(text, Path() if arguments.file == "-" else path.parent)
    files, adapters = upload(client, local.files), upload(client, local.adapters)
    body = {"model": arguments.model, "modelfile": text, "files": files, "adapters": adapters}
    follow(client.stream("/api/create", body))


def copy(client: Client, arguments: Namespace) -> None:
    client.ask("POST", "/api/copy", {"source": arguments.source, "destination": arguments.destination})
    print(f"copied {arguments.source} to {arguments.destination}")


def remove(client: Client, arguments: Namespace) -> None:
    for model in arguments.models:
        client.ask("DELETE", "/api/delete", {"model": model})
        print(f"deleted {model}")


def stop(client: Client, arguments: Namespace) -> None:
    print(client.ask("POST", "/v1/models/unload", {"model": arguments.model})["message"])


def run(client: Client, arguments: Namespace) -> None:
    """Answer what was said on the command line and in a pipe; on a terminal without either, have a conversation."""
    _require_model(client, arguments.model)
    conversation = Conversation(
        client, arguments.model, system=arguments.system, think=arguments.think, verbose=arguments.verbose
    )
    piped = "" if sys.stdin.isatty() else sys.stdin.read()
    said = "\n\n".join(text for text in (" ".join(arguments.prompt), piped.strip()) if text)
    if said:
        conversation.say(said)
    elif sys.stdin.isatty():
        client.ask("POST", "/api/generate", {"model": arguments.model, "stream": False})  # loads it meanwhile
        converse(conversation)
    else:
        raise Failed("There is nothing to say: give a prompt as an argument or in a pipe.")


def _require_model(client: Client, name: str) -> None:
    """Have the model here: one that names a repository of the hub is pulled."""
    try:
        client.ask("POST", "/api/show", {"model": name})
    except NotThere:
        if "/" not in name:
            raise NotThere(
                f"There is no model '{name}' here. `list` shows what there is; `pull org/repo` brings one from "
                "Hugging Face."
            ) from None
        follow(client.stream("/api/pull", {"model": name}))


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
