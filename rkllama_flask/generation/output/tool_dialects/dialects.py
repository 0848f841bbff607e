"""Which way of writing calls a model has been taught, and how such a call begins.

Reading doesn't depend on it: every way is understood from every model, since small and fine-tuned models mix them. It
is needed where a call is begun for the model.
"""

# ruff: noqa: RUF001 - DeepSeek's markers are written with a full-width bar

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace

from rkllama_flask.errors import InvalidRequest
from rkllama_flask.generation.output.turn_form import CallForm, NamedCall, ObjectCall
from rkllama_flask.generation.request import Tool, ToolChoice
from rkllama_flask.text.marks import common_start


@dataclass(frozen=True)
class Dialect:
    """`begin` is what stands before a function's name, `after_name` what stands between it and the arguments.

    `marks` are strings that all stand in the chat templates of models that write this way. `end` closes a call behind
    its arguments, `again` begins another one there, and `last` ends the last one; empty where that is not known.
    """

    name: str
    begin: str
    after_name: str
    marks: tuple[str, ...] = ()
    end: str = ""
    again: str = ""
    last: str = ""


_JSON = '", "arguments": {'
_LLAMA_JSON = '", "parameters": {'
_DEEPSEEK = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>"

_HERMES = '<tool_call>\n{"name": "'
_NEXT = ', {"name": "'

HERMES = Dialect("hermes", _HERMES, _JSON, ("<tool_call>",), "}\n</tool_call>", f"\n{_HERMES}")
LLAMA3 = Dialect("llama3", '{"name": "', _LLAMA_JSON, ('"parameters": ',))
MISTRAL = Dialect("mistral", '[TOOL_CALLS][{"name": "', _JSON, ("[TOOL_CALLS]",), "}", _NEXT)
GEMMA = Dialect("gemma", "```tool_code\n", "(", ("```tool_code",))
PHI = Dialect("phi", '<|tool_call|>[{"name": "', _JSON, ("<|tool_call|>",), "}", _NEXT)

DIALECTS = (
    # The first whose marks all stand in the template: the particular before the general.
    Dialect("gemma4", "<|tool_call>call:", "{", ("<|tool_call>",)),
    Dialect("functiongemma", "<start_function_call>call:", "{", ("<start_function_call>",)),
    Dialect("qwen3-coder", "<tool_call>\n<function=", ">\n", ("<function=", "<parameter=")),
    Dialect("deepseek", f"{_DEEPSEEK}function<｜tool▁sep｜>", "\n```json\n{", ("<｜tool▁call▁begin｜>", "```json")),
    Dialect("deepseek-v3.1", _DEEPSEEK, "<｜tool▁sep｜>{", ("<｜tool▁call▁begin｜>",)),
    Dialect("mistral-args", "[TOOL_CALLS]", "[ARGS]{", ("[TOOL_CALLS]", "[ARGS]")),
    MISTRAL,
    Dialect("minicpm", "<|tool_call_start|>\n```python\n", "(", ("<|tool_call_start|>", "```python")),
    Dialect("lfm2", "<|tool_call_start|>[", "(", ("<|tool_call_start|>",)),
    Dialect("internlm2", '<|action_start|><|plugin|>\n{"name": "', _LLAMA_JSON, ("<|action_start|>",)),
    Dialect("functools", 'functools[{"name": "', _JSON, ("functools[",), "}", _NEXT),
    PHI,
    replace(PHI, marks=("<|tool|>",)),
    GEMMA,
    HERMES,
    LLAMA3,
    replace(LLAMA3, marks=("<|python_tag|>",)),
)

_FAMILIES = (("mistral", MISTRAL), ("ministral", MISTRAL), ("llama", LLAMA3), ("phi", PHI))


def detect_dialect(chat_template: str | None, family: str | None = None) -> Dialect:
    """The way this model writes calls: told by its template, else by its family where the template has tools at all.

    Models that know no tools are taught Hermes' way, and so it is what is left.
    """
    template = chat_template or ""
    for dialect in DIALECTS:
        if all(mark in template for mark in dialect.marks):
            return dialect
    if "tools" in template:
        for prefix, dialect in _FAMILIES:
            if (family or "").lower().startswith(prefix):
                return dialect
    return HERMES


def is_written(form: CallForm) -> bool:
    """Whether a call in this form can be begun for the model: its name stands before its arguments."""
    return not isinstance(form.call, ObjectCall | NamedCall) or form.call.around is not None


def dialect_of(form: CallForm) -> Dialect:
    """How a call is begun in a form that was found, ended as far as another may follow, and followed by one."""
    around = form.call.around if isinstance(form.call, ObjectCall | NamedCall) else None
    before, between, behind = astuple(around) if around else ("", "", "")
    shared = 0 if form.between is None else common_start(form.between, form.end)
    return Dialect(
        "found",
        form.begin + before,
        between + "{" if around else "",
        end=behind + form.end[:shared],
        again="" if form.between is None else form.between[shared:] + before,
        last=form.end[shared:],
    )


def offered_names(choice: ToolChoice, tools: Sequence[Tool]) -> list[str]:
    """The functions that may be called. Raises InvalidRequest where the one that must be isn't among them."""
    names = list(dict.fromkeys(tool.name for tool in tools))
    if choice.mode != "named":
        return names
    if choice.name not in names:
        raise InvalidRequest(
            f"The function '{choice.name}' of tool_choice is not among the tools.", param="tool_choice"
        )
    return [choice.name]
