"""`POST /v1/completions`: the prompt goes to the model as it is, without a chat template."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from flask import Response, jsonify

from rkllama_flask.api.openai.choices import Choice, Choices, assemble, total_usage
from rkllama_flask.api.openai.errors import naming
from rkllama_flask.api.openai.fields import Prompt, token_ids_header
from rkllama_flask.api.openai.framing import Head, TextChunks
from rkllama_flask.api.openai.neutral import limit_of, sampling_of, unapplied_sampling
from rkllama_flask.api.openai.schemas import CompletionSchema
from rkllama_flask.api.openai.usage import render_timings, render_usage
from rkllama_flask.api.openapi import examples, replies
from rkllama_flask.api.openapi.views import accepts, returns
from rkllama_flask.api.web.body import read_json
from rkllama_flask.api.web.context import client_name, services
from rkllama_flask.api.web.streaming import collect, stream, unapplied_header
from rkllama_flask.catalog.model import Model
from rkllama_flask.generation.request import GenerationRequest

_schema = CompletionSchema()
T = TypeVar("T")


@accepts(CompletionSchema, examples.COMPLETION)
@returns(replies.COMPLETION, stream=replies.COMPLETION_CHUNKS)
def create_completion() -> Response:
    """Continue one prompt or several, streamed or whole."""
    body = read_json(lambda _: ("prompt",))
    fields = _schema.read(body)
    with naming({"messages": "prompt"}):
        response = _complete(fields, (*_schema.unapplied(body), *unapplied_sampling(fields)))
    response.headers.update(token_ids_header("prompt", fields["prompt"]))
    return response


def _complete(fields: Mapping[str, Any], unapplied: tuple[str, ...]) -> Response:
    model = services().inference.choose(fields.get("model"), writes=True)
    prompts: tuple[Prompt, ...] = fields["prompt"]
    per_prompt: int = fields["n"]
    count = len(prompts) * per_prompt
    echoes = _each([_text(model, prompt) for prompt in prompts], per_prompt) if fields["echo"] else ()
    requests = [_request(model, prompt, fields) for prompt in prompts]
    services().inference.examine(requests[1:])  # their turn comes when others have been answered: too late to refuse
    choices = Choices(services().inference.generate, _each(requests, per_prompt))
    head = Head.of(model, "cmpl")
    if fields["stream"]:
        include_usage = fields.get("stream_options", {}).get("include_usage", False)
        framing = TextChunks(head, count=count, per_prompt=per_prompt, include_usage=include_usage, echoes=echoes)
        return stream(choices, framing, unapplied=unapplied)
    answers = assemble(collect(choices), count)
    response = jsonify(_completion(head, answers, echoes or ("",) * count, per_prompt))
    response.headers.update(unapplied_header((*unapplied, *choices.unapplied)))
    return response


def _each(things: Iterable[T], times: int) -> tuple[T, ...]:
    """Each of them so many times, one after the other."""
    return tuple(thing for thing in things for _ in range(times))


def _request(model: Model, prompt: Prompt, fields: Mapping[str, Any]) -> GenerationRequest:
    return GenerationRequest(
        model=model,
        prompt=prompt,
        suffix=fields["suffix"],
        sampling=sampling_of(fields),
        max_tokens=limit_of(fields),
        stop=tuple(text for text in fields["stop"] if text),
        keep_alive=fields.get("keep_alive"),
        use_cache=fields.get("use_cache"),
        client=client_name(),
    )


def _text(model: Model, prompt: Prompt) -> str:
    return prompt if isinstance(prompt, str) else services().inference.detokenize(model, prompt, param="prompt")


def _completion(head: Head, answers: Sequence[Choice], echoes: Sequence[str], per_prompt: int) -> dict[str, Any]:
    finished = [answer.finished for answer in answers if answer.finished]
    body = head.body(
        "text_completion",
        choices=[
            {
                "index": index,
                "text": echo + answer.text,
                "logprobs": None,
                "finish_reason": "length" if answer.finished and answer.finished.reason == "length" else "stop",
            }
            for index, (answer, echo) in enumerate(zip(answers, echoes, strict=True))
        ],
        usage=render_usage(total_usage(finished, per_prompt)),
    )
    return body | ({"timings": render_timings(finished[0])} if len(answers) == 1 else {})
