"""The hidden folder where a model lies until it is whole, and the one rename that shows it.

Its name is `.pull-<model>-<state on the hub>`: what was fetched of another state is thrown away. Whoever works in it
holds a lock on it, so that two servers on one models folder never fetch the same twice.
"""

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rkllama_flask.catalog.changing.store import RESERVE, sync
from rkllama_flask.catalog.pull.plan import Plan
from rkllama_flask.catalog.pull.transfer import is_intact
from rkllama_flask.catalog.reading.listing import Stamp
from rkllama_flask.catalog.reading.pulled import Pulled, read_pulled, remember_pulled
from rkllama_flask.catalog.reading.weights_hash import hash_key, known_hashes, remember_hash
from rkllama_flask.errors import PullFailed

PREFIX = ".pull-"
KEPT = 7 * 86400
"""Seconds after which what is left of a pull that nobody took up again is thrown away."""


@dataclass(frozen=True)
class Place:
    """The folder that a model goes to: whether it lies there already, or what it was before it changed on the hub."""

    folder: str
    is_there: bool = False
    is_older: bool = False


def find_place(models_dir: Path, plan: Plan) -> Place:
    """Where a model goes. Raises PullFailed where all its names are taken, OSError."""
    pulled = read_pulled(models_dir, plan.family)
    places = [folder for folder in plan.folders if not os.path.lexists(models_dir / folder)]
    for folder in dict.fromkeys([*([pulled.folder] if pulled else []), *plan.folders]):
        place = models_dir / folder
        if place.is_symlink() or not place.is_dir():
            continue
        if _is_there(models_dir, folder, plan):
            return Place(folder, is_there=True)
        if pulled and pulled.folder == folder and (place / pulled.weights).exists():
            return Place(folder, is_older=True)
    if not places:
        raise PullFailed(f"The models folder has other things called {', '.join(plan.folders)}: rename one of them.")
    return Place(places[0])


def _is_there(models_dir: Path, folder: str, plan: Plan) -> bool:
    known = known_hashes(models_dir)
    for item in plan.weights:
        path = models_dir / folder / item.name
        if not path.is_file() or path.stat().st_size != item.file.size:
            return False
        key = hash_key(item.name, Stamp.of(path.stat()))
        if key in known and item.file.sha256:
            if known[key] != item.file.sha256:
                return False
        elif not is_intact(path, item.file):
            return False
    return True


@contextmanager
def workshop(models_dir: Path, plan: Plan, on_wait: Callable[[], None]) -> Iterator[Path]:
    """The folder to fetch into, for this process alone; waits for another one that works in it. Raises OSError."""
    models_dir.mkdir(parents=True, exist_ok=True)
    place = models_dir / f"{PREFIX}{plan.family}-{plan.state}"
    while True:
        place.mkdir(exist_ok=True)
        descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_wait()
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if not place.exists() or place.stat().st_ino != os.fstat(descriptor).st_ino:
                continue  # the other one has finished and taken the folder along
            yield place
            return
        finally:
            os.close(descriptor)


def throw_away_others(models_dir: Path, plan: Plan) -> None:
    """Remove what was fetched of other states of this model, and what has been left lying for long."""
    for place in models_dir.glob(f"{PREFIX}*"):
        own = place.name.startswith(f"{PREFIX}{plan.family}-")
        if place.name != f"{PREFIX}{plan.family}-{plan.state}" and (own or _age(place) > KEPT):
            throw_away(place)


def throw_away(place: Path) -> None:
    """Remove a workshop, unless somebody works in it."""
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(place, ignore_errors=True)
    except BlockingIOError:
        pass
    finally:
        os.close(descriptor)


def _age(place: Path) -> float:
    """Seconds since something happened in a workshop; 0 for one that just goes away."""
    try:
        return time.time() - max(path.stat().st_mtime for path in (place, *place.iterdir()))
    except OSError:
        return 0.0


def require_space(place: Path, plan: Plan) -> None:
    """Raise PullFailed where the disk has no room for what is still missing."""
    there = sum((place / item.name).stat().st_size for item in plan.items if (place / item.name).exists())
    missing, free = plan.size - there, shutil.disk_usage(place).free
    if missing and missing + RESERVE > free:
        raise PullFailed(
            f"{_gib(missing)} are needed, and the disk of {place.parent} has {_gib(free)} free: delete models, or "
            "set MODELS_DIR to a larger disk.",
            status=507,
        )


def show(workshop: Path, models_dir: Path, place: Place, plan: Plan) -> None:
    """Put what is whole where the catalog sees it. Raises OSError."""
    for item in plan.weights:
        if item.file.sha256:
            stamp = Stamp.of((workshop / item.name).stat())
            remember_hash(models_dir, hash_key(item.name, stamp), item.file.sha256)
    sync(workshop)
    if place.is_older:
        for item in (*plan.side, *plan.weights):
            (workshop / item.name).replace(models_dir / place.folder / item.name)
        sync(models_dir / place.folder)
        shutil.rmtree(workshop, ignore_errors=True)
    else:
        workshop.rename(models_dir / place.folder)
    sync(models_dir)


def remember(models_dir: Path, place: Place, plan: Plan) -> None:
    """Keep by which names this model was asked for. Raises OSError."""
    before = read_pulled(models_dir, plan.family)
    names = (*(before.names if before and before.folder == place.folder else ()), *plan.names)
    pulled = Pulled(place.folder, plan.weights[0].name, tuple(dict.fromkeys(names)))
    remember_pulled(models_dir, plan.family, pulled)


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
