"""A server that can do everything: a model that knows tools and thoughts, and a hub to pull from."""

from collections.abc import Iterator

import pytest

from tests.conftest import scripted_library
from tests.hub import serve_hub
from tests.serving import Server, start_server

MODEL = "qwen3-0.6b"
REPO = "org/Tiny-1B-rk3588-w8a8"
OTHER_REPO = "org/Small-2B-rk3588-w8a8"


@pytest.fixture(scope="session")
def hub_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("with-hub")
    with serve_hub() as hub:
        for repo in (REPO, OTHER_REPO):
            hub.repos[repo] = {f"{repo.partition('/')[2]}.rkllm": f"load_ms=0\n# {repo}".encode() * 200}
        env = {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "hf"), "NPU_PLATFORM": "rk3588", "NO_PROXY": "127.0.0.1"}
        models = {f"{MODEL}.rkllm": "load_ms=0"}
        server = start_server(folder, library=scripted_library("1.3"), models=models, env=env)
        yield server
        server.stop()
