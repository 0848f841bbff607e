"""`POST /api/create`: a model of uploaded files, of one that is here, or of one on the hub, which is pulled first."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from flask import Response, jsonify

from rkllama_flask.api.ollama.changes import check_name, freeing
from rkllama_flask.api.ollama.schemas import CreateSchema, model_name
from rkllama_flask.api.openapi import examples, replies
from rkllama_flask.api.openapi.views import accepts, returns
from rkllama_flask.api.pulling import PullEvents, PullLines
from rkllama_flask.api.web.context import services
from rkllama_flask.api.web.streaming import collect, stream, unapplied_header
from rkllama_flask.catalog.changing.uploaded import Uploaded, arrange
from rkllama_flask.catalog.pull.pulls import Step
from rkllama_flask.catalog.pull.source import parse_source
from rkllama_flask.catalog.reading.modelfile import Written, compose, inherit, parse
from rkllama_flask.catalog.reading.parameters import WITHOUT_EFFECT
from rkllama_flask.errors import InvalidRequest, ModelNotFound, UnsupportedRequest
from rkllama_flask.generation.events import Waiting

_create = CreateSchema()


@accepts(CreateSchema, examples.OLLAMA_CREATE)
@returns(replies.OLLAMA_STATUS, stream=replies.OLLAMA_CREATE_LINES)
def create_model() -> Response:
    """`POST /api/create`: a model of uploaded files, or of another one, with words and parameters around it."""
    fields = _create.read_body()
    name = model_name(fields)
    check_name(name, "invalid model name", new=True)
    catalog, inference, blobs = services().catalog, services().inference, services().blobs

    def find(sha256: str) -> Path | None:
        return blobs.find(sha256) or catalog.find_weights(sha256)

    def make() -> Sequence[Step]:
        with freeing(catalog, inference), catalog.alone():  # or another could take the uploaded files meanwhile
            written, uploaded = _written(fields, arrange(fields["files"], fields["adapters"], find))
            catalog.create(name, written, uploaded=uploaded)
        files = (*uploaded.weights, *uploaded.side, *uploaded.adapters)
        told = (f"using existing layer sha256:{file.sha256}" for file in files)
        return [{"status": status} for status in (*told, "writing manifest", "success")]

    events = _Making(make)
    unapplied = _unapplied(fields)
    if fields["stream"]:
        return stream(events, PullLines(), unapplied=unapplied)
    response = jsonify(collect(events)[-1])
    response.headers.update(unapplied_header(unapplied))
    return response


class _Making:
    """The steps of making a model; if its base is missing and on the hub, those of that pull come first."""

    unapplied: tuple[str, ...] = ()

    def __init__(self, make: Callable[[], Sequence[Step]]) -> None:
        self._make = make
        self._pull: PullEvents | None = None
        try:
            self._steps: Iterator[Step] | None = iter(make())
        except ModelNotFound as error:
            if not parse_source(error.name):
                raise
            self._steps, self._pull = None, PullEvents(error.name)

    def __iter__(self) -> "_Making":
        return self

    def __next__(self) -> Step | Waiting:
        if self._steps is None:
            assert self._pull is not None
            step = next(self._pull)
            if isinstance(step, Waiting) or step["status"] != "success":
                return step
            self._steps = iter(self._make())
        return next(self._steps)

    def close(self) -> None:
        if self._pull is not None:
            self._pull.close()


def _text(fields: Mapping[str, Any]) -> Written:
    return parse(fields["modelfile"]) if fields["modelfile"] else Written()


def _parameters(fields: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(key, value) for key, value in fields["parameters"].items() if value is not None]


def _unapplied(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """What has no effect here, wherever it is said."""
    named = (key for key, _ in _parameters(fields) if key.lower() in WITHOUT_EFFECT)
    return (*_create.unapplied(fields), *_text(fields).unapplied, *named)


def _written(fields: Mapping[str, Any], uploaded: Uploaded) -> tuple[Written, Uploaded]:
    """The Modelfile that is asked for, and what was uploaded, with the scales that it gives adapters.

    Raises InvalidRequest, and UnsupportedRequest for what can't be done here.
    """
    if fields["quantize"] or fields["quantization"]:
        raise UnsupportedRequest("models can't be quantized here: it is done when they are converted", param="quantize")
    text = _text(fields)
    source = fields.get("source") or text.source
    if not source and not uploaded.weights:
        missing = "no files provided to convert" if fields["files"] else "neither 'from' or 'files' was specified"
        raise InvalidRequest(missing, param="from")
    said = compose(
        system=fields.get("system"),
        template=fields.get("template"),
        parameters={key: value for key, value in _parameters(fields) if key.lower() not in WITHOUT_EFFECT},
        messages=[(turn["role"], turn["content"]) for turn in fields["messages"]],
        license=fields["license"],
    )
    scales = {path.name: scale for path, scale in text.modelfile.adapters}
    adapters = tuple(replace(file, scale=scales.pop(file.name, 1.0)) for file in uploaded.adapters)
    here = tuple(one for one in text.modelfile.adapters if one[0].name in scales)  # the others are the uploaded ones
    if here and adapters:
        raise InvalidRequest("adapters are all uploaded, or all in the models folder", param="adapters")
    modelfile = inherit(replace(text.modelfile, adapters=here), said)
    return Written(source, modelfile), replace(uploaded, adapters=adapters)
