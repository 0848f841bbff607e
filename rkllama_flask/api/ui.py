"""`/ui`: a page for people, made of files beside this module. It uses the public API and nothing else."""

from pathlib import Path

from flask import Blueprint, Response, redirect, send_from_directory
from werkzeug.wrappers import Response as BaseResponse

from rkllama_flask.api.web.pages import protect

blueprint = Blueprint("ui", __name__)

_FILES = Path(__file__).parent / "ui_page"


@blueprint.get("/ui")
def ui() -> BaseResponse:
    """To the page, whose files are named from its folder on."""
    return redirect("ui/")


@blueprint.get("/ui/")
@blueprint.get("/ui/<path:name>")
def page(name: str = "index.html") -> Response:
    """The page and its files. Nothing in it may make markup or code of a text."""
    return protect(send_from_directory(_FILES, name), require_trusted_types_for="'script'", trusted_types="'none'")
