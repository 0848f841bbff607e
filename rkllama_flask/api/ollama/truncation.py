"""What has outgrown the context: of a conversation the oldest turns are left out, of a plain prompt its beginning."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from rkllama_flask.api.web.streaming import Events
from rkllama_flask.errors import ContextLengthExceeded
from rkllama_flask.generation.events import Content, Waiting
from rkllama_flask.generation.request import GenerationRequest, Message

Generate = Callable[[GenerationRequest], Events[Content]]
Shorten = Callable[[GenerationRequest, ContextLengthExceeded], GenerationRequest]
"""A request of which less is left, where the one before had too many tokens. Raises the error if nothing can go."""

ROOM_FOR_ANSWER = 1 / 4
"""The part of the context that a shortened conversation leaves free."""


class FittingAnswer:
    """The events of an answer to as much of a request as fits.

    How much has to go is judged from the counts that come with the refusal, which is exact, and from the length of the
    texts; what is still too long is shortened again. Raises what `generate` and its events raise.
    """

    def __init__(self, generate: Generate, request: GenerationRequest, shorten: Shorten) -> None:
        self._generate = generate
        self._shorten = shorten
        self.request = request
        self._begun = False
        self._events = self._begin()

    @property
    def unapplied(self) -> tuple[str, ...]:
        return self._events.unapplied

    def __iter__(self) -> Iterator[Content | Waiting]:
        return self

    def __next__(self) -> Content | Waiting:
        try:
            event = next(self._events)
        except ContextLengthExceeded as error:  # a model without a tokenizer: only the runtime can count
            self._events.close()
            if self._begun:
                raise
            self.request = self._shorten(self.request, error)
        else:
            self._begun |= not isinstance(event, Waiting)
            return event
        self._events = self._begin()
        return next(self)

    def close(self) -> None:
        self._events.close()

    def _begin(self) -> Events[Content]:
        try:
            return self._generate(self.request)
        except ContextLengthExceeded as error:
            self.request = self._shorten(self.request, error)
        return self._begin()  # not deep: each time at least a quarter goes


def without_oldest_turns(request: GenerationRequest, error: ContextLengthExceeded) -> GenerationRequest:
    """The request without its oldest turns. System messages stay, the last question, and the last turn; calls stay or
    go together with their results. Raises `error` where nothing can go.
    """
    messages = request.messages or ()
    wanted = sum(map(_length, messages)) * _share(error)
    gone = _to_leave_out(messages, wanted)
    if not gone:
        raise error
    return replace(request, messages=tuple(message for at, message in enumerate(messages) if at not in gone))


def without_beginning(request: GenerationRequest, error: ContextLengthExceeded) -> GenerationRequest:
    """The request without the beginning of its context, and then of its prompt. Raises `error`."""
    excess = error.prompt_tokens - int(error.limit * (1 - ROOM_FOR_ANSWER))
    if request.context:
        return replace(request, context=request.context[excess:])
    if request.messages:
        *before, last = request.messages
        return replace(request, messages=(*before, replace(last, content=_end_of(last.content, error))))
    if not isinstance(request.prompt, str):
        raise error
    return replace(request, prompt=_end_of(request.prompt, error))


def _end_of(text: str, error: ContextLengthExceeded) -> str:
    keep = int(len(text) * _share(error))
    if not keep:
        raise error
    return text[-keep:]


def _share(error: ContextLengthExceeded) -> float:
    """How much of what was too long may stay."""
    return error.limit * (1 - ROOM_FOR_ANSWER) / max(error.prompt_tokens, 1)


def _to_leave_out(messages: tuple[Message, ...], wanted: float) -> set[int]:
    """Places of the oldest turns, so many that not more than `wanted` is left, or all that may go.

    First those before the last question, up to a user's turn, because many templates want one first; then those behind.
    """
    turns = _turns(messages)
    users = [messages[turn[0]].role == "user" for turn in turns]
    question = len(users) - 1 - users[::-1].index(True) if True in users else -1
    before = max(question, 0)
    left, gone = sum(map(_length, messages)), set[int]()
    for at, turn in enumerate((*turns[:before], *turns[question + 1 : -1])):
        if gone and left <= wanted and (at >= before or users[at]):
            break
        gone.update(turn)
        left -= sum(_length(messages[place]) for place in turn)
    return gone


def _turns(messages: tuple[Message, ...]) -> list[list[int]]:
    """The places of what stays or goes together, without the system's: a message, or calls with their results."""
    found: list[list[int]] = []
    called = False
    for at, message in enumerate(messages):
        if message.role == "tool" and called:
            found[-1].append(at)
        elif message.role != "system":
            found.append([at])
            called = bool(message.tool_calls)
    return found


def _length(message: Message) -> int:
    return len(message.content) + sum(len(call.name + call.arguments) for call in message.tool_calls)
