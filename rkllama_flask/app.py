"""The application factory: every floor is put together here, and nowhere else."""

import logging

from flask import Flask

from rkllama_flask.api import register
from rkllama_flask.api.web.record import observe
from rkllama_flask.catalog.catalog import Catalog
from rkllama_flask.catalog.changing.blobs import Blobs
from rkllama_flask.catalog.pull.pulls import Pulls
from rkllama_flask.engine.engine import Engine
from rkllama_flask.generation.inference import Inference
from rkllama_flask.hosting import logs
from rkllama_flask.inference_config import LiveConfig
from rkllama_flask.machine.platforms import this_platform
from rkllama_flask.native_threads import call_natively
from rkllama_flask.promptcache.store import CacheStore
from rkllama_flask.runtime.cpu_engine import announce_cpu_engine
from rkllama_flask.services import Services
from rkllama_flask.settings import Settings

logger = logging.getLogger("rkllama_flask")


def create_app(settings: Settings | None = None) -> Flask:
    """The WSGI application. Starts no thread and loads no library: that is for the process that serves, on first use.

    Raises SettingsError where a setting is wrong.
    """
    settings = settings or Settings.from_environment()
    logs.install(settings.log_level)
    if warning := settings.make_folders():
        logger.warning(warning)
    announce_cpu_engine()
    catalog = Catalog(settings.models_dir, on_warning=logger.warning, natively=call_natively)
    cache_store = CacheStore(settings.cache_dir, max_bytes=settings.cache_max_bytes)
    engine = Engine(
        libraries={"rkllm": settings.rkllm_lib_path, "gguf": settings.cpu_runtime_path},
        lock_path=settings.npu_lock,
        journal_path=settings.cache_dir / ".engine-journal.json",
        keep_alive=settings.keep_alive,
        max_loaded=settings.max_loaded_models,
        max_queue=settings.max_queue,
        max_wait=settings.max_wait,
        hang_timeout=settings.hang_timeout,
        cache_store=cache_store,
        automatic_caches_from=settings.automatic_caches_from,
    )
    config = LiveConfig(settings.config_path, on_warning=logger.warning)
    inference = Inference(
        engine,
        catalog,
        config,
        default_model=settings.default_model,
        fallback_model=settings.fallback_model,
        model_aliases=settings.model_aliases,
        max_context_length=settings.max_context_length,
        platform=settings.npu_platform or this_platform(),
        on_warning=logger.warning,
        cache_store=cache_store,
        automatic_caches_from=settings.automatic_caches_from,
        queue_timeout=settings.queue_timeout,
        request_timeout=settings.request_timeout,
        observe=observe,
    )
    pulls = Pulls(catalog, endpoint=settings.hf_endpoint, token=settings.hf_token, platform=settings.npu_platform)
    blobs = Blobs(catalog.models_dir)
    blobs.tidy()
    app = Flask("rkllama_flask", static_folder=None)
    app.extensions["rkllama"] = Services(
        settings=settings, catalog=catalog, inference=inference, config=config, pulls=pulls, blobs=blobs
    )
    register(app)
    return app
