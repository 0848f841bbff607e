"""How a token is chosen: the runtime's nine knobs."""

from dataclasses import dataclass, fields, replace


@dataclass(frozen=True)
class Sampling:
    """The runtime's nine sampling parameters; None means "not said here".

    `temperature` 0 or `top_k` 1 is greedy. `mirostat` is 0, 1 or 2. The runtime has no seed in any version.
    """

    top_k: int | None = None
    top_p: float | None = None
    temperature: float | None = None
    repeat_penalty: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    mirostat: int | None = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None

    def over(self, base: "Sampling") -> "Sampling":
        """These values where they are said, those of `base` elsewhere."""
        said = self.said()
        return replace(base, **said) if said else base  # type: ignore[arg-type]

    def said(self) -> dict[str, int | float]:
        """The parameters that are not None, by name."""
        return {name: value for name in _NAMES if (value := getattr(self, name)) is not None}


_NAMES = tuple(field.name for field in fields(Sampling))
