"""From a request to what the runtime is fed, and to the stages that read its answer."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace

from rkllama_flask.catalog.model import Model
from rkllama_flask.errors import AnswerUnfit, InvalidRequest, TemplateFailed, UnsupportedRequest
from rkllama_flask.generation.generation import Parser
from rkllama_flask.generation.guided.continuing import continuing
from rkllama_flask.generation.guided.filling import MOST_TEXT, Encode, Filling
from rkllama_flask.generation.guided.forced_calls import CheckedCalls, ForcedCall, checkers_of, parameters_of
from rkllama_flask.generation.guided.json_format import JsonOutput
from rkllama_flask.generation.guided.json_values import Script
from rkllama_flask.generation.guided.thoughts import ThoughtsSlot
from rkllama_flask.generation.guided.written import Written
from rkllama_flask.generation.output.content_marks import Splitter
from rkllama_flask.generation.output.readers import calls_for, splitter_for, text_begins
from rkllama_flask.generation.output.tool_calls import OnlyCalls, ToolCallParser
from rkllama_flask.generation.output.tool_dialects.dialects import Dialect, detect_dialect
from rkllama_flask.generation.output.turn_form import Marks, TurnForm
from rkllama_flask.generation.prompt.infill import infill
from rkllama_flask.generation.prompt.openings import Openings, after_system, hash_of, opening
from rkllama_flask.generation.prompt.segments import Prompt, Segment
from rkllama_flask.generation.prompt.special_text import neutralise
from rkllama_flask.generation.prompt.templates import ChatTemplate
from rkllama_flask.generation.prompt.tokens import KEPT, Tokenizer
from rkllama_flask.generation.request import GenerationRequest, Message
from rkllama_flask.generation.turns.proof import Reading
from rkllama_flask.generation.turns.readings import TurnReadings
from rkllama_flask.native_threads import call_natively
from rkllama_flask.promptcache.prefix import Content, content


@dataclass(frozen=True)
class BuiltPrompt:
    """`content` is text or token ids; `tokens` their exact number, None without a tokenizer.

    `opening` is what it begins with before anything of its user's, where that is long, and `opening_length` the
    characters of its messages; `conversation` tells what the user said first; `left_out` names the messages that are
    not in it as they were sent. With `steps` the server writes the answer
    together with the model; the content is then the first step's, the tokens are the prompt's alone.
    """

    content: str | Sequence[int]
    tokens: int | None
    splitter: Splitter | None = None
    parser: Parser | None = None
    steps: Filling | None = None
    opening: Content | None = None
    opening_length: int = 0
    conversation: str = ""
    left_out: tuple[str, ...] = ()


class Prompts:
    """Builds prompts with the model's own template and tokenizer. Tells openings from `openings_from` tokens on.

    `readings` are how answers to each template's prompts are read.
    """

    def __init__(self, *, openings_from: int = 0) -> None:
        self.readings = TurnReadings(call_natively)
        self._openings = Openings(openings_from)
        self._read: OrderedDict[str, None] = OrderedDict()  # whose tokenizers are kept, the last used last

    def reading(self, model: Model) -> Reading:
        """How this model's turns are read when it has tools. Tries its template out, if that has not been done."""
        return self.readings.of(ChatTemplate.for_model(model, tools=True))

    def known_reading(self, model: Model) -> Reading | None:
        """The same, None before that is known."""
        return self.readings.known(ChatTemplate.for_model(model, tools=True))

    def tokenizer(self, model: Model) -> Tokenizer | None:
        """The model's tokenizer, None where its files hold none. Read off the event loop: that takes a while."""
        read = model.identity in self._read
        found = Tokenizer.for_model(model) if read else call_natively(lambda: Tokenizer.for_model(model))
        self._read.pop(model.identity, None)
        self._read[model.identity] = None
        if len(self._read) > KEPT:
            self._read.popitem(last=False)
        return found

    def build(self, request: GenerationRequest) -> BuiltPrompt:
        """Raises TemplateFailed, InvalidRequest or UnsupportedRequest for what the model can't be asked."""
        tokenizer = self.tokenizer(request.model)
        if request.messages is None:
            return self._raw(request, tokenizer)
        tools = () if request.tool_choice.mode == "none" else request.tools
        template = ChatTemplate.for_model(request.model, override=request.template, tools=bool(tools))
        form = self.readings.of(template).form
        messages = _conversation(request)
        parser: Parser | None = None
        script: Callable[[Written], Script] | None = None
        thinking = request.model.modelfile.parameters.get("think") if request.thinking is None else request.thinking
        output = _json_output(request)
        if output is not None:
            messages = _with_system_addition(messages, output.instruction)
        if output is not None and not request.calls_first:
            parser, script = output, output.script
        elif tools:
            dialect = detect_dialect(template.source if template.supports_tools else None, request.model.family)
            parser, script = _tool_parser(request, dialect, form)
            if script is not None and request.thinking is None:
                thinking = False  # who wants a call and nothing else wants no thoughts before it
        arguments = dict(request.template_arguments)
        prompt = template.render(messages, tools, thinking=thinking, arguments=arguments)
        thinks = template.thinking_is_prefilled(prompt, *(astuple(form.reasoning) if form.reasoning else ()))
        splitter = splitter_for(form, open=thinks, calls=_only_calls(request, form) if tools else None)
        written, tokens = self._encode(prompt, request.model, tokenizer, context=request.context)
        built = BuiltPrompt(written, tokens, splitter, parser, left_out=_names(prompt, messages, request))
        if script is not None:
            may_think = thinks or (template.supports_thinking and thinking is not False)

            def encode(whole: Prompt) -> tuple[str | list[int], int | None]:
                return self._encode(whole, request.model, tokenizer, context=request.context)

            behind = continuing(prompt, encode, tokenizer)
            thoughts_open = thinks if may_think else None
            begins = text_begins(form) if parser is output else ""
            built = _in_steps(
                built, script, behind, request, thoughts_open=thoughts_open, found=form.reasoning, begins=begins
            )
        rest = after_system(request.messages)
        if request.context or not rest:
            return built

        def write(conversation: Sequence[Message]) -> str | list[int]:
            rendered = template.render(conversation, tools, thinking=thinking, arguments=arguments)
            return self._encode(rendered, request.model, tokenizer)[0]

        leading = messages[: len(messages) - len(rest)]
        key = (request.model.identity, template.source, leading, tools, thinking, arguments)
        found = self._openings.find(content(built.content), leading, write, key)
        if found is None:
            return built
        return replace(
            built,
            opening=found,
            opening_length=sum(len(message.content) for message in leading),
            conversation=hash_of(rest[0]),
        )

    def opening(self, model: Model, messages: Sequence[Message]) -> Content:
        """What every prompt begins with that has these messages first. Raises TemplateFailed."""
        tokenizer = self.tokenizer(model)
        template = ChatTemplate.for_model(model)
        thinking = model.modelfile.parameters.get("think")

        def write(conversation: Sequence[Message]) -> str | list[int]:
            return self._encode(template.render(conversation, thinking=thinking), model, tokenizer)[0]

        return opening(_with_model_defaults(tuple(messages), model), write)

    def after_answer(self, request: GenerationRequest, answer: str) -> list[int] | None:
        """The token ids of a conversation with its answer, where a later one can go on; None without a tokenizer."""
        tokenizer = self.tokenizer(request.model)
        if tokenizer is None or request.messages is None or request.model.modelfile.input == "text":
            return None
        template = ChatTemplate.for_model(request.model, override=request.template)
        messages = (*_conversation(request), Message("assistant", answer))
        try:
            prompt = template.render(messages, thinking=request.thinking, add_generation_prompt=False)
        except TemplateFailed:
            return None
        return [*request.context, *tokenizer.encode(prompt, add_bos=not request.context)]

    def _raw(self, request: GenerationRequest, tokenizer: Tokenizer | None) -> BuiltPrompt:
        """A prompt that the client has formatted itself: special tokens in it are meant."""
        assert request.prompt is not None
        if not request.prompt and not request.suffix:
            raise InvalidRequest("'prompt' must not be empty.", param="prompt")
        encode: Encode
        if isinstance(request.prompt, str):
            prompt = _with_suffix(request.prompt, request, tokenizer)

            def encode(more: Sequence[Segment]) -> tuple[str | Sequence[int], int | None]:
                return self._encode(replace(prompt, segments=(*prompt.segments, *more)), request.model, tokenizer)

        else:
            if request.suffix:
                raise UnsupportedRequest("A suffix needs a prompt of text, not of token ids.", param="suffix")
            if tokenizer is not None:
                tokenizer.check(request.prompt, param="prompt")
            encode = _behind(request.prompt, tokenizer)
        parser = _json_output(request)
        built = BuiltPrompt(*encode(()), None, parser)
        return _in_steps(built, parser.script, encode, request) if parser else built

    @staticmethod
    def _encode(
        prompt: Prompt, model: Model, tokenizer: Tokenizer | None, *, context: Sequence[int] = ()
    ) -> tuple[str | list[int], int | None]:
        """What the runtime gets, and how many tokens that is; None without a tokenizer."""
        if context and (tokenizer is None or model.modelfile.input == "text"):
            raise UnsupportedRequest(
                "This model is given text, not token ids, so it can't go on from a context: send the whole prompt.",
                param="context",
            )
        if tokenizer is None:
            return neutralise(prompt), None
        if model.modelfile.input == "text":
            text = tokenizer.as_text(prompt)
            return text, len(tokenizer.encode(Prompt((Segment(text, trusted=True),))))
        tokenizer.check(context, param="context")
        ids = [*context, *tokenizer.encode(prompt, add_bos=not context)]
        return ids, len(ids)


def _names(prompt: Prompt, messages: Sequence[Message], request: GenerationRequest) -> tuple[str, ...]:
    """What the template left out, in the client's words."""
    sent = request.messages or ()
    places = {id(message): f"messages[{place}]" for place, message in enumerate(sent)} if prompt.left_out else {}
    return tuple(dict.fromkeys(places.get(id(messages[at]), "messages") for at in prompt.left_out))


def _json_output(request: GenerationRequest) -> JsonOutput | None:
    """What the answer's format makes of it. A large schema takes a good part of a second to look at."""
    wanted = request.format
    return call_natively(lambda: JsonOutput(wanted)) if wanted else None


def _tool_parser(
    request: GenerationRequest, dialect: Dialect, form: TurnForm
) -> tuple[ToolCallParser | CheckedCalls, Callable[[Written], Script] | None]:
    """What reads the calls of an answer, and what writes one where it is forced.

    Raises InvalidRequest for tools or a choice that can't be had.
    """
    tools, choice, parallel = request.tools, request.tool_choice, request.parallel_tool_calls
    parser = ToolCallParser.for_request(tools, choice, parallel=parallel, form=calls_for(form))
    if choice.mode in ("required", "named"):
        call = call_natively(lambda: ForcedCall(tools, choice, dialect, parallel=parallel, found=form.calls))
        return CheckedCalls(parser, call.checkers), call.script
    strict = {tool.name: parameters_of(tool) for tool in request.tools if tool.strict}
    checkers = call_natively(lambda: checkers_of(strict)) if strict else {}
    return (CheckedCalls(parser, checkers) if checkers else parser), None


def _only_calls(request: GenerationRequest, form: TurnForm) -> Callable[[], OnlyCalls]:
    """What tells calls at the end of thoughts."""
    tools, choice = request.tools, request.tool_choice
    return lambda: OnlyCalls(ToolCallParser.for_request(tools, choice, form=form.calls))


def _behind(ids: Sequence[int], tokenizer: Tokenizer | None) -> Encode:
    """Puts what is written of an answer behind a prompt of token ids."""

    def encode(more: Sequence[Segment]) -> tuple[str | Sequence[int], int | None]:
        if not more:
            return ids, len(ids)
        if tokenizer is None:
            raise UnsupportedRequest(
                "This model has no tokenizer, so an answer in JSON can't be begun behind token ids: send text.",
                param="prompt",
            )
        whole = [*ids, *tokenizer.encode(Prompt(tuple(more)), add_bos=False)]
        return whole, len(whole)

    return encode


def _text_limit(request: GenerationRequest) -> int | None:
    """Of a text in JSON, in tokens; None where the client or the model's file has limited the whole answer."""
    limited = request.max_tokens is not None or request.model.modelfile.max_tokens is not None
    return None if limited else MOST_TEXT


def _in_steps(
    built: BuiltPrompt,
    script: Callable[[Written], Script],
    encode: Encode,
    request: GenerationRequest,
    *,
    thoughts_open: bool | None = None,
    found: Marks | None = None,
    begins: str = "",
) -> BuiltPrompt:
    """The prompt of an answer that a script writes with the model, behind thoughts if `thoughts_open` is no None.

    `found` are the marks of the model's thoughts, `begins` is what its text begins with.
    """
    written = Written()

    def whole() -> Script:
        if thoughts_open is not None:
            yield ThoughtsSlot(written, open=thoughts_open, found=found)
        written.fix(begins, trusted=True)
        yield from script(written)

    try:
        stops = request.cutting_stops
        steps = Filling(whole(), written, encode, text_limit=_text_limit(request), cutting_stops=stops)
    except AnswerUnfit as error:  # no model has been asked yet: it is the schema's fault
        raise InvalidRequest(f"The JSON Schema can't be used: {error.message}") from error
    assert steps.step is not None
    return replace(built, content=steps.step.prompt, steps=steps)


def _conversation(request: GenerationRequest) -> tuple[Message, ...]:
    """The messages, after what the model's own Modelfile says first; earlier turns have said it already."""
    assert request.messages is not None
    return request.messages if request.context else _with_model_defaults(request.messages, request.model)


def _with_model_defaults(messages: tuple[Message, ...], model: Model) -> tuple[Message, ...]:
    """The Modelfile's example turns, and its system prompt where the client has none."""
    modelfile = model.modelfile
    examples = tuple(Message(role, content) for role, content in modelfile.messages)  # type: ignore[arg-type]
    if modelfile.system and not any(message.role == "system" for message in messages):
        return (Message("system", modelfile.system), *examples, *messages)
    if examples:
        leading = 1 if messages and messages[0].role == "system" else 0
        return (*messages[:leading], *examples, *messages[leading:])
    return messages


def _with_suffix(prompt: str, request: GenerationRequest, tokenizer: Tokenizer | None) -> Prompt:
    if not request.suffix:
        return Prompt((Segment(prompt, trusted=True),))
    found = infill(prompt, request.suffix, tokenizer.special_strings if tokenizer else ())
    if found is None:
        raise UnsupportedRequest(
            f"{request.model.name} has no tokens for filling in before a suffix: send only the prompt.", param="suffix"
        )
    return found


def _with_system_addition(messages: tuple[Message, ...], text: str) -> tuple[Message, ...]:
    """`text` after the system prompt, or as one."""
    if messages and messages[0].role == "system":
        first = replace(messages[0], content=f"{messages[0].content}\n\n{text}")
        return (first, *messages[1:])
    return (Message("system", text), *messages)
