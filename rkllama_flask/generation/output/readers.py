"""What reads an answer, by the form that the model's own template writes."""

from collections.abc import Callable

from rkllama_flask.generation.output import channels
from rkllama_flask.generation.output.content_marks import Splitter, UnwrappingSplitter
from rkllama_flask.generation.output.form_reader import opener_of
from rkllama_flask.generation.output.reasoning import ReasoningSplitter
from rkllama_flask.generation.output.tool_calls import CALL_MARKS, OnlyCalls
from rkllama_flask.generation.output.turn_form import CallForm, TurnForm


def splitter_for(form: TurnForm, *, open: bool, calls: Callable[[], OnlyCalls] | None = None) -> Splitter:
    """What tells reasoning from text. `open`: the prompt ends inside the reasoning; `calls` as ReasoningSplitter's."""
    if form.in_channels:
        return channels.ChannelSplitter()
    mark = opener_of(form.calls) if form.calls else None
    marks = CALL_MARKS if mark is None else (*CALL_MARKS, mark)
    splitter = ReasoningSplitter(open=open, found=form.reasoning, calls=calls, call_marks=marks)
    return UnwrappingSplitter(splitter, form.content) if form.content else splitter


def calls_for(form: TurnForm) -> CallForm | None:
    """How calls stand in what the splitter leaves as text; None: in none but the known ways."""
    return channels.CALLS if form.in_channels else form.calls


def text_begins(form: TurnForm) -> str:
    """What stands before an answer's text, to be written where the server begins it."""
    if form.in_channels:
        return channels.FINAL
    return form.content.open if form.content else ""
