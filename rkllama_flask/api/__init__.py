"""HTTP: one room per dialect, each only parses, validates and frames."""

from flask import Flask


def register(app: Flask) -> None:
    """Give `app` every route, and what all of them share: request ids, admission, errors in each API's own shape."""
    from rkllama_flask.api import anthropic, cache, models, ollama, openai, ui
    from rkllama_flask.api.documentation import docs
    from rkllama_flask.api.observability import access_log, metrics, ops
    from rkllama_flask.api.web import context, errors, record, security

    app.url_map.converters["model"] = models.NameConverter
    app.json.sort_keys = False  # type: ignore[attr-defined]  # answers keep the order their API documents
    for part in (record, access_log, metrics):
        part.install(app)
    context.install(app)
    security.install(app)
    errors.install(app, [openai.dialect, ollama.dialect, anthropic.dialect])
    app.register_blueprint(ops.blueprint)
    app.register_blueprint(docs.blueprint)
    app.register_blueprint(ui.blueprint)
    app.register_blueprint(ollama.blueprint)
    for blueprint in (openai.blueprint, anthropic.blueprint, models.blueprint, cache.blueprint):
        app.register_blueprint(blueprint, url_prefix="/v1")
        app.register_blueprint(blueprint, name=f"{blueprint.name}_without_prefix")
