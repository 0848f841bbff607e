"""How each template's turns are read: found once, when its model is first used, and kept."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

from rkllama_flask.generation.prompt.compiled import compiled
from rkllama_flask.generation.prompt.probing import probed
from rkllama_flask.generation.prompt.template_limits import ProbingTime, TemplateLimit
from rkllama_flask.generation.prompt.templates import ChatTemplate
from rkllama_flask.generation.turns.probes import Probes, Turn
from rkllama_flask.generation.turns.proof import UNREAD, Reading, find_reading

KEPT = 64
"""Templates whose readings are kept, the last used ones."""


class TurnReadings:
    """`natively` calls what takes a while where nobody else has to wait for it."""

    def __init__(self, natively: Callable[[Callable[[], Reading]], Reading]) -> None:
        self._natively = natively
        self._found: OrderedDict[str, Reading] = OrderedDict()

    def known(self, template: ChatTemplate) -> Reading | None:
        """What has been found already."""
        return self._found.get(template.source)

    def of(self, template: ChatTemplate) -> Reading:
        """How an answer to this template's prompts is read: in the known ways, where the template can't be tried."""
        found = self._found.pop(template.source, None) or self._natively(lambda: read_template(template))
        self._found[template.source] = found
        if len(self._found) > KEPT:
            self._found.popitem(last=False)
        return found


def read_template(template: ChatTemplate) -> Reading:
    """Try a template out. All renderings together have the time of one, so that a hostile one can't take more."""
    try:
        return find_reading(probes_for(template))
    except Exception:  # whatever a template does to say no
        return UNREAD


def probes_for(template: ChatTemplate) -> Probes:
    """What a template writes for made-up turns. Raises what compiling it raises."""
    made, time = compiled(template.source), ProbingTime()
    takes = probed(template.source, with_tools=True)

    def render(messages: Sequence[Turn], tools: Sequence[Turn], *, add_generation_prompt: bool) -> str:
        if time.is_over:
            raise TemplateLimit("trying the template out takes too long")
        given = made.variables(messages, tools, tools_as_list=takes.tools_as_list)
        tokens = {"bos_token": template.bos_token, "eos_token": template.eos_token}
        with time.spent():
            return made.render({**tokens, **given, "add_generation_prompt": add_generation_prompt})

    return Probes(render)
