"""The documentation agrees with the code: settings, messages, licences, links."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from rkllama_flask import errors
from rkllama_flask.inference_config import parse
from rkllama_flask.runtime import log_lines
from rkllama_flask.settings import Settings
from tests.docs.blocks import PAGES
from tests.serving import ROOT

DOCS = ROOT / "docs"
ANYTHING = "\0"


def settings_in_code() -> set[str]:
    return set(re.findall(r'env\.\w+\(\s*"([A-Z_]+)"', (ROOT / "rkllama_flask" / "settings.py").read_text()))


def settings_in_docs() -> dict[str, str]:
    """Defaults by name, as the table has them."""
    rows = re.findall(r"^\| `([A-Z_]+)` \|(.*?)\|", (DOCS / "configuration.md").read_text(), re.MULTILINE)
    return {name: default.strip() for name, default in rows}


def test_every_setting_is_documented_once_and_none_is_made_up() -> None:
    assert set(settings_in_docs()) == settings_in_code()


def test_documented_defaults_are_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in settings_in_code():
        monkeypatch.delenv(name, raising=False)
    usual = Settings.from_environment()
    checked = 0
    for name, default in settings_in_docs().items():
        if re.fullmatch(r"`[^`]+`", default) and name != "NPU_LOCK":  # which depends on /run/lock
            monkeypatch.setenv(name, default.strip("`"))
            assert Settings.from_environment() == usual, name
            monkeypatch.delenv(name)
            checked += 1
    assert checked > 20


def test_the_example_of_the_settings_file_names_every_setting_and_can_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "conf" / "rkllama.env.example").read_text()
    used = re.sub(r"^# (?=[A-Z_]+=)", "", text, flags=re.MULTILINE)
    assert set(re.findall(r"^([A-Z_]+)=", used, re.MULTILINE)) == settings_in_code()
    for name in settings_in_code():
        monkeypatch.setenv(name, "")  # so that what the file sets is taken back afterwards
        monkeypatch.delenv(name)
    keys = tmp_path / "keys"
    keys.write_text("third-key\n")
    (tmp_path / ".env").write_text(used.replace("/etc/rkllama/keys", str(keys)))
    monkeypatch.setenv("ENV_FILE", str(tmp_path / ".env"))
    assert Settings.from_environment().api_keys == ("one-key", "another-key", "third-key")


def test_every_error_code_is_documented_with_its_status() -> None:
    rows = re.findall(r"^\| ([0-9, ]+) \| (.*?) \|", (DOCS / "openai.md").read_text(), re.MULTILINE)
    told = {
        (int(status), code) for statuses, codes in rows for status in statuses.split(",") for code in codes.split(", ")
    }
    for error in vars(errors).values():
        if isinstance(error, type) and issubclass(error, errors.RkllamaError):
            code = "null" if error is errors.InvalidRequest else f"`{error.code}`"
            assert (error.status, code) in told or error is errors.Unavailable, error


def test_every_key_of_the_live_configuration_is_documented() -> None:
    text = (DOCS / "configuration.md").read_text().split("## Live configuration")[1]
    for key in re.findall(
        r'^    "(\w+)": \(', (ROOT / "rkllama_flask" / "inference_config.py").read_text(), re.MULTILINE
    ):
        assert f"`{key}`" in text or f".{key}`" in text, key
    assert parse((ROOT / "conf" / "inference_config.json").read_text()) == parse("{}")


def texts_in_code() -> Iterator[str]:
    """Every text of the package and its scripts, with ANYTHING where a value is put in."""
    for path in (ROOT / "rkllama_flask").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else ANYTHING for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield re.sub(r"\{\w*\}", ANYTHING, node.value)
    for path in (ROOT / "scripts" / "_environment.sh", ROOT / "native" / "build.py", ROOT / "gunicorn.conf.py"):
        yield re.sub(r"\{[^}]*\}|%s|\$\w+", ANYTHING, path.read_text())
    for path in (*(ROOT / "native").glob("cpu_runtime*.cpp"), *(ROOT / "conf" / "nginx").rglob("*.conf")):
        yield path.read_text()


def messages() -> tuple[list[str], list[str]]:
    """Those of the server, and the lines of Rockchip's library, in the troubleshooting page's tables."""
    ours, theirs = (DOCS / "troubleshooting.md").read_text().split("## Lines of Rockchip's library")
    rows = re.compile(r"^\| `(.+?)` \|", re.MULTILINE)
    return rows.findall(ours), rows.findall(theirs)


NOT_OURS = {"Address already in use"}  # the operating system's word, in gunicorn's log


def test_the_troubleshooting_page_quotes_what_is_really_said() -> None:
    known = list(texts_in_code())
    quoted = [message for message in messages()[0] if message not in NOT_OURS]
    assert len(quoted) > 30
    for message in quoted:
        pattern = re.compile(".*".join(re.escape(part) for part in re.split("…|libgomp.so.1", message)), re.DOTALL)
        told = [text for text in known if pattern.search(text)] or [
            text for text in known if ANYTHING in text and _could_say(text, message)
        ]
        assert told, message


def _could_say(text: str, message: str) -> bool:
    """Whether the pieces of a text stand in the message, in order, and are most of it; for one that shows a value."""
    pieces = [piece for piece in text.split(ANYTHING) if len(piece.strip()) > 3]
    most = sum(map(len, pieces)) > len(message) * 0.6
    return most and re.search(".*".join(map(re.escape, pieces)), message) is not None


def test_the_librarys_lines_are_those_that_the_server_understands() -> None:
    for line in messages()[1]:
        assert log_lines.known_part(line.replace("…", "12")), line


def test_every_dependency_has_its_reason_and_licence() -> None:
    """The table of docs/architecture.md against the pinned requirements."""
    table = (DOCS / "architecture.md").read_text().split("## Dependencies")[1]
    named = {
        name.lower()
        for row in re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE)
        for name in re.findall(r"[\w.-]+", row)
    }
    for file in ("requirements.txt", "requirements-cpu.txt"):
        for name in re.findall(r"^([\w.-]+)", (ROOT / file).read_text(), re.MULTILINE):
            assert name.lower() in named, f"{name} of {file}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_readme_fits_on_one_screen_and_names_no_page_twice() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) < 80
    linked = re.findall(r"\(docs/([\w.-]+)\)", text)
    assert len(linked) == len(set(linked))


def test_every_page_can_be_found_from_another() -> None:
    for page in DOCS.glob("*.md"):
        others = (other.read_text() for other in PAGES if other != page)
        assert any(re.search(rf"\((?:docs/)?{page.name}[)#]", text) for text in others), page.name
