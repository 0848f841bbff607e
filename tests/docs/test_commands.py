"""Every command of the documentation that can run without a board is run."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs.blocks import PAGES, commands
from tests.serving import ROOT


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_work_one_after_the_other(page: Path, shell: Callable[[str], str]) -> None:
    for block in commands(page):
        if block.run:
            assert "sudo " not in block.text, f"{block}: mark it with <!-- not run: reason -->"
            print(block, shell(block.text))


def test_commands_are_found() -> None:
    """Else the test above would pass with nothing done."""
    run = [block for page in PAGES for block in commands(page) if block.run]
    assert sum(block.text.count("curl ") for block in run) > 12
    assert {"README.md", "caching.md"} <= {block.page.name for block in run}
