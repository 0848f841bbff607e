"""A template made ready: the one place where somebody else's template runs."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from rkllama_flask.generation.prompt.special_text import MODEL_TAGS
from rkllama_flask.generation.prompt.template_limits import ProbingTime
from rkllama_flask.generation.prompt.template_messages import Turn
from rkllama_flask.generation.prompt.template_sandbox import TemplateEnvironment

_ENVIRONMENT = TemplateEnvironment()


class CompiledTemplate:
    """Raises jinja2.TemplateSyntaxError. `tags` are the model's own tags that the template treats, `trials`
    the time for finding out what it takes."""

    def __init__(self, source: str) -> None:
        self._template = _ENVIRONMENT.compile_metered(source)
        self.names_tools = re.search(r"\b(?:tools|functions)\b", source) is not None
        self._names = {name for name in ("functions", "datetime") if re.search(rf"\b{name}\b", source)}
        self.trials = ProbingTime()
        self.tags = frozenset(tag for tag in MODEL_TAGS if tag in source)

    def render(self, variables: Mapping[str, Any]) -> str:
        """What the template makes of these variables. Raises whatever a template can."""
        return _ENVIRONMENT.render_metered(self._template, variables)

    def variables(self, messages: Sequence[Turn], tools: Sequence[Turn], *, tools_as_list: bool) -> dict[str, Any]:
        """What templates are given beside tokens and switches: no tools are none, or an empty list.

        Some want the tools as JSON text in `functions`, and the time in `datetime`.
        """
        found: dict[str, Any] = {"messages": list(messages), "documents": None}
        found["tools"] = list(tools) or ([] if tools_as_list else None)
        if "functions" in self._names:
            found["functions"] = json.dumps([tool["function"] for tool in tools], ensure_ascii=False)
        if "datetime" in self._names:
            found["datetime"] = datetime.now().strftime("%A, %d %B %Y")
        return found


@lru_cache(maxsize=32)
def compiled(source: str) -> CompiledTemplate:
    return CompiledTemplate(source)
