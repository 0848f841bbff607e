"""Which name each of several models gets, so that each has one of its own.

A pure function of what the files are called: a name does not depend on the order in which they came. Of several files
that would have the same friendly name one keeps it, and the others get a tag that says what they differ in.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rkllama_flask.catalog.reading.names import FileName


@dataclass(frozen=True)
class Candidate:
    """A file that wants a name. `file` is its path inside the models folder, `ending` without the dot."""

    file: str
    ending: str
    name: FileName


def assign(candidates: Iterable[Candidate], *, taken: Iterable[str] = ()) -> dict[str, str]:
    """A name for each file; `taken` are names, in any case, that were given by hand."""
    used = {name.lower() for name in taken}
    groups: dict[str, list[Candidate]] = {}
    for candidate in sorted(candidates, key=_rank):
        groups.setdefault(candidate.name.friendly, []).append(candidate)
    names: dict[str, str] = {}
    for friendly, group in groups.items():
        tags = _tags(group)
        holder = None if friendly in used else next((c for c in group if not tags[c.file]), group[0])
        for candidate in group:
            plain = candidate is holder
            names[candidate.file] = friendly if plain else _unused(friendly, tags[candidate.file], used)
            used.add(names[candidate.file].lower())
    return names


def _rank(candidate: Candidate) -> tuple[bool, int, str]:
    """Who comes first: what was made for the NPU, then the shorter name, then the alphabet."""
    return candidate.ending != "rkllm", len(candidate.file), candidate.file


def _tags(group: Sequence[Candidate]) -> dict[str, str]:
    """What tells the members of a group apart, by file: as few words as do it."""
    if len(group) == 1:
        return {group[0].file: _words(group[0], range(1)) or group[0].ending}
    differing: list[int] = []
    for column in range(len(_traits(group[0]))):
        if len({_traits(member)[column] for member in group}) > 1:
            differing.append(column)
            tags = {member.file: _words(member, differing) for member in group}
            if len(set(tags.values())) == len(group):
                return tags
    return {member.file: _words(member, differing) for member in group}


def _traits(candidate: Candidate) -> tuple[str, ...]:
    return (*candidate.name.packaging.traits(), candidate.ending)


def _words(candidate: Candidate, columns: Iterable[int]) -> str:
    traits = _traits(candidate)
    return "-".join(traits[column] for column in columns if traits[column])


def _unused(friendly: str, tag: str, used: set[str]) -> str:
    name = f"{friendly}:{tag}" if tag else f"{friendly}:2"
    number = 2
    while name in used:
        name = f"{friendly}:{tag}-{number}" if tag else f"{friendly}:{number}"
        number += 1
    return name
