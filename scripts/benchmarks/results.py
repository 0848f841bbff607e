"""What one run of the benchmark found: figures with all their values, and what they depend on. JSON and back."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from scripts.benchmarks.figures import Figure

HTTP, BARE, RATIO = "through HTTP", "bare library", "HTTP ÷ bare"


@dataclass(frozen=True)
class Series:
    """All values of one thing. `setting` is what it was measured at, such as {"prompt": 128}."""

    what: str
    source: str
    unit: str
    setting: dict[str, Any]
    values: tuple[float, ...]

    @cached_property
    def figure(self) -> Figure:
        return Figure.of(self.values)


@dataclass
class Results:
    """`notes` say what was not measured, and why."""

    model: str
    environment: dict[str, Any]
    series: list[Series] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, what: str, source: str, unit: str, values: Sequence[float | None], **setting: Any) -> None:
        """Keep what was measured; nothing is kept of nothing."""
        measured = tuple(value for value in values if value is not None)
        if measured:
            self.series.append(Series(what, source, unit, setting, measured))

    def of(self, what: str, source: str) -> Iterator[Series]:
        """Every series of this, in the order in which they were measured."""
        return (one for one in self.series if (one.what, one.source) == (what, source))

    def find(self, what: str, source: str, **setting: Any) -> Series | None:
        """The series that was measured at just this."""
        return next((one for one in self.of(what, source) if one.setting == setting), None)

    def write(self, path: Path) -> None:
        content = {
            "model": self.model,
            "environment": self.environment,
            "notes": self.notes,
            "series": [
                {
                    "what": one.what,
                    "source": one.source,
                    "unit": one.unit,
                    "setting": one.setting,
                    **one.figure._asdict(),
                    "values": list(one.values),
                }
                for one in self.series
            ],
        }
        path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Results":
        """Raises OSError and ValueError for a file that holds none."""
        content = json.loads(path.read_text(encoding="utf-8"))
        try:
            series = [
                Series(one["what"], one["source"], one["unit"], one["setting"], tuple(one["values"]))
                for one in content["series"]
            ]
            return cls(content["model"], content["environment"], series, content["notes"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path} holds no results of this benchmark: {error!r}") from None
