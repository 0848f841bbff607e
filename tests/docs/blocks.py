"""Code blocks of the documentation. `<!-- not run: reason -->` on the line before one says that no test runs it."""

import re
from dataclasses import dataclass
from pathlib import Path

from tests.serving import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_MARK = re.compile(r"<!-- not run: .+ -->")
_COMMAND = re.compile(
    r"^(?:curl|openssl|sudo|docker|git|pip|apt|systemctl|journalctl|\S*scripts/\w+|\.venv/\S+|python3?) ", re.M
)


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    text: str
    run: bool

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def commands(page: Path) -> list[Block]:
    """The blocks of a page that are commands for a shell, fenced or indented."""
    return [block for block in _blocks(page) if _COMMAND.search(block.text)]


def _blocks(page: Path) -> list[Block]:
    found: list[Block] = []
    lines = page.read_text(encoding="utf-8").splitlines()
    number = 0
    while number < len(lines):
        start, taken = number, []
        if lines[number].startswith("```"):
            number += 1
            while not lines[number].startswith("```"):
                taken.append(lines[number])
                number += 1
        elif lines[number].startswith("    ") and (number == 0 or not lines[number - 1].strip()):
            while number < len(lines) and (lines[number].startswith("    ") or not lines[number].strip()):
                taken.append(lines[number][4:])
                number += 1
        number += 1
        if taken:
            before = next((line for line in reversed(lines[:start]) if line.strip()), "")
            found.append(Block(page, start + 1, "\n".join(taken).strip() + "\n", not _MARK.fullmatch(before)))
    return found
