"""From a listing to the models it holds, before any name is found for those that weren't given one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from rkllama_flask.catalog.reading import names
from rkllama_flask.catalog.reading.entries import Entry, Files, given_name, join, stands_for_itself
from rkllama_flask.catalog.reading.listing import Listing, Stamp
from rkllama_flask.catalog.reading.modelfile import FILE_NAME, Written, inherit
from rkllama_flask.catalog.reading.names import take_apart
from rkllama_flask.errors import InvalidRequest


@dataclass(frozen=True)
class Resolved:
    """`broken` says of a name given by hand why its model can't be used, `incomplete` of each key that leads to a file
    of a split model that its first file is missing.
    """

    entries: tuple[Entry, ...]
    broken: Mapping[str, str]
    incomplete: Mapping[str, str]


def resolve(listing: Listing, models_dir: Path, read: Callable[[str, Stamp], Written]) -> Resolved:
    """Find the models in a listing. `read` parses the Modelfile at a path; it raises InvalidRequest, OSError."""
    files = Files(listing, models_dir)
    written: dict[str, Written] = {}
    broken: dict[str, str] = {}
    for folder in listing:
        if folder.name and FILE_NAME in folder.files:
            path = join(folder.name, FILE_NAME)
            try:
                written[folder.name] = read(path, folder.files[FILE_NAME])
            except (InvalidRequest, OSError) as error:
                broken[folder.name] = f"{path}: {error}"
    made: dict[str, Entry] = {}
    for name in written:
        try:
            made[name] = _made(name, files, written, ())
        except ValueError as error:  # noqa: PERF203 - one broken folder must not hide the others
            broken[name] = f"{name}/{FILE_NAME}: {error}"
    used = {entry.weights for entry in made.values() if not entry.is_alias}
    used |= {path.relative_to(models_dir).as_posix() for e in made.values() for path, _ in e.modelfile.adapters}
    # Weights whose only Modelfile is broken are not offered without it: it may say what they can't do without.
    used |= {only for folder in broken if (only := files.only_weights(folder))}
    loose = (files.entry(path) for path in files.weights if path not in used and stands_for_itself(path))
    reasons = {given_name(name).key: reason for name, reason in broken.items()}
    incomplete = {
        key: f"{path}: the first file of this split model is not here"
        for path in files.strays()
        for key in files.called(path)
    }
    return Resolved((*made.values(), *loose), reasons, incomplete)


def _made(folder: str, files: Files, written: Mapping[str, Written], asked_by: tuple[str, ...]) -> Entry:
    """The model that a folder's Modelfile makes. Raises ValueError with the reason why it makes none."""
    own = written[folder]
    base = _base(folder, files, written, (*asked_by, folder))
    modelfile = inherit(base.modelfile, replace(own.modelfile, adapters=files.adapters(own, folder)))
    side = {**base.side, **files.side(folder)}
    adapters = (path.relative_to(files.models_dir).as_posix() for path, _ in modelfile.adapters)
    return replace(
        base,
        given=given_name(folder),
        folder=folder,
        names=(*base.names, take_apart(folder)),
        side=side,
        stamps=files.stamps((*side.values(), join(folder, FILE_NAME), *adapters)),
        modelfile=modelfile,
    )


def _base(folder: str, files: Files, written: Mapping[str, Written], asked_by: tuple[str, ...]) -> Entry:
    """The weights that FROM means, with what another Modelfile already says of them. Raises ValueError."""
    source = written[folder].source
    if source is None:
        only = files.only_weights(folder)
        if only is None:
            raise ValueError("it says no FROM, and there isn't exactly one weights file beside it")
        return files.entry(only)
    beside = files.find(source, folder)
    if beside is not None:
        return files.entry(beside)
    missing = ValueError(f"FROM {source}: there is no such file or model in the models folder")
    try:
        wanted = names.parse(source).key
    except InvalidRequest:
        raise missing from None
    for other in written:
        if given_name(other).key == wanted and other != folder:
            if other in asked_by:
                raise ValueError(f"FROM {source} leads in a circle")
            return _made(other, files, written, asked_by)
    for path in sorted(files.weights):
        if wanted in files.called(path):
            return files.entry(path)
    raise missing
