"""What the blueprints work with; the application factory puts it in `app.extensions["rkllama"]`."""

from dataclasses import dataclass

from rkllama_flask.catalog.catalog import Catalog
from rkllama_flask.catalog.changing.blobs import Blobs
from rkllama_flask.catalog.pull.pulls import Pulls
from rkllama_flask.generation.inference import Inference
from rkllama_flask.inference_config import LiveConfig
from rkllama_flask.settings import Settings


@dataclass(frozen=True)
class Services:
    settings: Settings
    catalog: Catalog
    inference: Inference
    config: LiveConfig
    pulls: Pulls
    blobs: Blobs
