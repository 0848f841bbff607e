"""Servers that a whole file of promises shares."""

from collections.abc import Iterator

import pytest

from tests.conftest import scripted_library
from tests.serving import Server, start_server


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest, family: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the file's `MODELS` and `SETTINGS`, in each family."""
    folder = tmp_path_factory.mktemp("server")
    library = scripted_library(family)
    server = start_server(folder, library=library, models=request.module.MODELS, env=request.module.SETTINGS)
    yield server
    server.end()
