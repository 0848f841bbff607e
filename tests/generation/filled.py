"""Answers that are written with a model that says what a test wants it to say."""

from rkllama_flask.generation.guided.filling import Filling
from rkllama_flask.generation.guided.json_format import JsonOutput
from rkllama_flask.generation.guided.written import Written
from rkllama_flask.generation.request import JsonFormat


def encode(segments):
    """The text itself, and so many tokens as it has characters."""
    text = "".join(segment.text for segment in segments)
    return text, len(text)


def play(steps, say, *, cut=lambda text: [text]):
    """(The whole answer, the prompts of its runs); `say(prompt)` is what the model says behind a prompt."""
    sent, prompts = [], []
    while steps.step is not None:
        sent.append(steps.take())
        prompts.append(steps.step.prompt)
        limit = steps.step.max_tokens
        for piece in cut(say(steps.step.prompt))[:limit]:
            enough = steps.feed(piece)
            sent.append(steps.take())
            if enough:
                break
        steps.end()
    sent.append(steps.take())
    return "".join(sent), prompts


def steps_for(schema):
    """(The steps that write an answer of this schema, the JsonOutput that checks it)."""
    output = JsonOutput(JsonFormat(schema))
    written = Written()
    return Filling(output.script(written), written, encode), output


def filled(schema, say, **options):
    """(The answer's text, the JsonOutput that has checked it, the prompts of the runs)."""
    if not callable(say):
        words = iter(say)
        say = lambda _: next(words)  # noqa: E731
    steps, output = steps_for(schema)
    text, prompts = play(steps, say, **options)
    output.feed(text)
    output.finish()
    return text, output, prompts
