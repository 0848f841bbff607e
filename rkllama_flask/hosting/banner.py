"""The few lines a person reads when the server starts."""

from contextlib import suppress

from rkllama_flask.catalog.catalog import Catalog
from rkllama_flask.catalog.model import Model
from rkllama_flask.catalog.reading import facts
from rkllama_flask.errors import RkllamaError
from rkllama_flask.runtime.library import find_version
from rkllama_flask.settings import Settings


def banner(settings: Settings) -> str:
    """What serves, from where, one command to try, and pages to open."""
    catalog = Catalog(settings.models_dir)
    names = [model.name for model in catalog.list()]
    everywhere = settings.host in ("0.0.0.0", "::", "127.0.0.1", "::1")  # noqa: S104 - compared, not bound
    url = f"http://localhost:{settings.port}" if everywhere else f"http://{settings.address}"
    if socket_path := settings.host.partition("unix:")[2]:
        url = f"--unix-socket {socket_path} http://localhost"
    where = settings.host if socket_path else url
    lines = [f"rkllama-flask serves on {where}", f"  runtime  {_runtime(settings)}"]
    if names:
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        lines.append(f"  models   {shown}")
        if name := _to_try(catalog, settings.default_model):
            lines.append("  try      " + _example(url, name, wants_key=bool(settings.api_keys)))
    else:
        lines += [
            f"  models   none yet: put a .rkllm file (or a folder with one) into {settings.models_dir}",
            "           or fetch one from Hugging Face: scripts/rkllama pull org/repo",
        ]
    if not socket_path:
        lines.append(f"  browser  {url}/ui to chat and to see what it does, {url}/docs for the API")
    if not settings.is_local and not settings.api_keys:
        lines.append("  WARNING  everybody who reaches this address may use it: set API_KEYS, or HOST=127.0.0.1")
    return "\n".join(lines)


def _to_try(catalog: Catalog, default: str | None) -> str | None:
    """A model that chats, the default one if it does: what is shown has to work."""
    if default:
        with suppress(RkllamaError):
            if _chats(catalog.find(default)):
                return default
    return next((model.name for model in catalog.list() if _chats(model)), None)


def _chats(model: Model) -> bool:
    return "completion" in facts.capabilities(model)


def _runtime(settings: Settings) -> str:
    found = []
    for label, path in (("Rockchip NPU", settings.rkllm_lib_path), ("CPU", settings.cpu_runtime_path)):
        if path is not None:
            try:
                found.append(f"{label}, RKLLM {find_version(path)}")
            except RkllamaError as error:
                found.append(f"{label}: {error}")
    return (
        "\n           ".join(found)
        or "none: install Rockchip's librkllmrt.so, or let scripts/serve build the CPU runtime"
    )


def _example(url: str, model: str, *, wants_key: bool) -> str:
    key = " -H 'x-api-key: <one of API_KEYS>'" if wants_key else ""
    body = f'{{"model": "{model}", "stream": true, "messages": [{{"role": "user", "content": "Hello!"}}]}}'
    return f"curl -N {url}/v1/chat/completions{key} -d '{body}'"
