"""Pull one model: `python -m rkllama_flask.catalog.pull --models-dir models org/repo`.

Each line of the output is an object as Ollama's `/api/pull` streams it; the last has the status `success`, or an
`error` and the HTTP `code` for it. The process ends when its input does: whoever started it holds the other end.
"""

import argparse
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rkllama_flask.catalog.changing.store import DISK_FULL
from rkllama_flask.catalog.pull.source import DEFAULT_ENDPOINT, Source, parse_source
from rkllama_flask.errors import InvalidRequest, PullFailed
from rkllama_flask.machine.platforms import platform_of, this_platform

REPORT_EVERY = 0.2
"""Seconds between two lines of progress."""


def pull(source: Source, models_dir: Path, *, endpoint: str, token: str | None, platform: str | None) -> None:
    """Fetch a model, telling each step on the standard output. Raises PullFailed, OSError."""
    # The libraries for this take a second to import on a board; a wrong name is told before.
    from rkllama_flask.catalog.pull.hub import Hub
    from rkllama_flask.catalog.pull.plan import make_plan
    from rkllama_flask.catalog.pull.workshop import find_place, remember, require_space, show, workshop
    from rkllama_flask.catalog.pull.workshop import throw_away_others as tidy

    hub = Hub(endpoint, token)
    plan = make_plan(source, platform, hub.look)
    tell(status=f"taking {plan.weights[0].file.path}: {plan.reason}")
    with workshop(models_dir, plan, lambda: tell(status="waiting for the same pull in another process")) as folder:
        place = find_place(models_dir, plan)
        if place.is_there:
            shutil.rmtree(folder)
        else:
            tidy(models_dir, plan)
            try:
                require_space(folder, plan)
                _fetch(hub, plan, folder)
                tell(status="writing manifest")
                show(folder, models_dir, place, plan)
            except OSError as error:
                if error.errno not in DISK_FULL:
                    raise
                shutil.rmtree(folder)
                raise PullFailed(
                    f"The disk of {models_dir} is full: delete models, or set MODELS_DIR to a larger disk.", status=507
                ) from error
            except PullFailed:
                if not any(folder.iterdir()):
                    folder.rmdir()
                raise
        remember(models_dir, place, plan)
    tell(status="success")


def _fetch(hub: Any, plan: Any, folder: Path) -> None:
    """Bring all files, and check them. A file that was begun earlier and turns out wrong is fetched once more."""
    from rkllama_flask.catalog.pull.transfer import is_intact, receive

    items = list(plan.items)
    begun = {item for item in items if (folder / item.name).exists()}
    while items:
        for item in items:
            receive(hub, item, folder / item.name, _reporter(item.file))
        tell(status="verifying sha256 digest")
        wrong = [item for item in items if not is_intact(folder / item.name, item.file)]
        for item in wrong:
            (folder / item.name).unlink()
        if set(wrong) - begun:
            raise PullFailed(
                f"{', '.join(item.file.path for item in wrong)} did not arrive as it is on the hub (its checksum is "
                "wrong): pull again, and if that happens again, look at what is between this machine and the hub.",
                status=502,
            )
        items, begun = wrong, set()


def _reporter(file: Any) -> Callable[[int], None]:
    kind, digest = ("sha256", file.sha256) if file.sha256 else ("sha1", file.blob_id or "")
    fixed = {"status": f"pulling {digest[:12] or file.name}", "digest": f"{kind}:{digest}", "total": file.size}
    next_at = 0.0

    def report(completed: int) -> None:
        nonlocal next_at
        now = time.monotonic()
        if now >= next_at or completed == file.size:
            next_at = now + REPORT_EVERY
            tell(**fixed, **({"completed": completed} if completed else {}))

    return report


def tell(**line: Any) -> None:
    """Write one line for whoever started this; without a reader there is nothing to go on for."""
    try:
        sys.stdout.write(f"{json.dumps(line)}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os._exit(1)


def _end_with_input() -> None:
    os.read(0, 1)
    os._exit(1)


def run(source: Source, models_dir: Path, platform: str | None) -> int:
    """Pull as the environment says; the exit code. What went wrong is told."""
    endpoint, token = os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT, os.environ.get("HF_TOKEN") or None
    try:
        pull(source, models_dir, endpoint=endpoint, token=token, platform=platform and platform_of(platform))
    except PullFailed as error:
        tell(error=error.message, code=error.status)
        return 1
    except OSError as error:
        tell(error=f"The models folder can't be written: {error.strerror or error}.", code=500)
        return 1
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m rkllama_flask.catalog.pull", description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--models-dir", type=Path, required=True)
    parser.add_argument("--platform", default=this_platform(), help="RK3588, RK3576, RK3562 or RV1126B")
    arguments = parser.parse_args()
    # The library asks the hub which programs to report as its user, unless it may report nothing.
    os.environ |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    if not sys.stdin.isatty():
        threading.Thread(target=_end_with_input, daemon=True).start()
    try:
        source = parse_source(arguments.name)
    except InvalidRequest as error:
        tell(error=error.message, code=error.status)
        return 1
    if source is None:
        parser.error("this is no name of a repository")
    return run(source, arguments.models_dir, arguments.platform)


if __name__ == "__main__":
    os.nice(5)
    sys.exit(main())
