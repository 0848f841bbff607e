"""What operators and load balancers ask: `/health` (alive, and how it stands) and `/ready` (send requests here?)."""

from flask import Blueprint, Response, jsonify, request

import rkllama_flask
from rkllama_flask.api.observability.metrics import expose
from rkllama_flask.api.openapi import replies
from rkllama_flask.api.openapi.views import returns
from rkllama_flask.api.web.context import services
from rkllama_flask.errors import Unavailable

blueprint = Blueprint("ops", __name__)


class NotReady(Unavailable):
    """The server lives, and asks to be asked later."""

    code = "not_ready"


@blueprint.get("/health")
@blueprint.get("/v1/health")
@returns(replies.HEALTH)
def health() -> Response:
    """How the server stands. 200 as long as it can answer at all."""
    inference, config = services().inference, services().config
    status = inference.status()
    return jsonify(
        status=_word(ready=status.ready, draining=status.draining),
        version=rkllama_flask.__version__,
        ready=status.ready,
        busy=status.busy,
        queue={"waiting": status.waiting, "expected_wait": round(status.expected_wait, 3)},
        models=[
            {
                "name": resident.model.name,
                "format": resident.model.format,
                "context_length": resident.context_length,
                "loaded_at": resident.loaded_at,
                "expires_at": resident.expires_at,
            }
            for resident in inference.resident()
        ],
        config={"error": config.error},
        crashes=dict(status.crashes),
    )


@blueprint.delete("/health/crashes")
@blueprint.delete("/v1/health/crashes")
@returns(replies.CLEARED)
def forget_crashes() -> Response:
    """Allow again what is refused because it crashed or hung the runtime. Waits for a running answer."""
    return jsonify(cleared=services().inference.forgive_crashes())


@blueprint.get("/ready")
@returns(replies.READY)
def ready() -> Response:
    """200 when a request would be taken up now; 503 while a model loads and while the server shuts down."""
    status = services().inference.status()
    if not status.ready:
        raise NotReady(
            f"The server is {_word(ready=status.ready, draining=status.draining)}.",
            retry_after=2 if status.draining else 1,
        )
    return jsonify(status="ok")


@blueprint.get("/metrics")
@returns(content_type="text/plain")
def metrics() -> Response:
    """Figures for Prometheus, as text or, where `Accept` asks for it, as OpenMetrics."""
    body, content_type = expose(request.headers.get("Accept", ""))
    return Response(body, content_type=content_type)


def _word(*, ready: bool, draining: bool) -> str:
    if draining:
        return "draining"
    return "ok" if ready else "loading"
