"""Say how the turns of every chat template of a folder are read: calls, and what stands around reasoning and text.

Calls are `found` in the template and proven, read in a `named` way that is known, `unread` in part, or `none`.
"""

import argparse
import time
from collections import Counter
from dataclasses import astuple
from pathlib import Path

from rkllama_flask.generation.output.turn_form import TurnForm
from rkllama_flask.generation.prompt.templates import ChatTemplate
from rkllama_flask.generation.turns.readings import read_template


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/template-turns", description=__doc__)
    parser.add_argument("folder", type=Path, help="a folder of chat templates, *.jinja")
    folder = parser.parse_args().folder
    paths = sorted(folder.glob("*.jinja"))
    if not paths:
        parser.error(f"{folder} holds no *.jinja")
    counts: Counter[str] = Counter()
    for path in paths:
        begun = time.process_time()
        reading = read_template(ChatTemplate(path.read_text(encoding="utf-8"), path.stem, "<s>", "</s>"))
        spent = (time.process_time() - begun) * 1e3
        counts[reading.calls] += 1
        print(f"{path.stem:54} {reading.calls:7}{spent:4.0f} ms  {reading.why or _marks(reading.form)}")
    print(", ".join(f"{count} {calls}" for calls, count in counts.most_common()))


def _marks(form: TurnForm) -> str:
    around = ((name, getattr(form, name)) for name in ("reasoning", "content"))
    return " ".join(f"{name} {' … '.join(map(repr, astuple(marks)))}" for name, marks in around if marks)


if __name__ == "__main__":
    main()
