"""What every test may use: the native libraries, and whole servers on loopback ports."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rkllama_flask.runtime.cpu_engine import announce_cpu_engine
from tests.serving import ROOT, Server, start_server

os.environ["ENV_FILE"] = os.devnull  # the user's own settings are not the tests'
announce_cpu_engine()  # for those that open the library without the server


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Only the process that counts reports; a worker's words would come through once the runtime's log is led back."""
    if hasattr(config, "workerinput"):
        config.pluginmanager.unregister(name="terminalreporter")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Leave the counts where scripts/test reads them."""
    target = os.environ.get("RKLLAMA_TEST_COUNTS")
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if target and reporter:
        count = {key: len(reports) for key, reports in reporter.stats.items()}
        passed = count.get("passed", 0) + count.get("xfailed", 0)
        failed = count.get("failed", 0) + count.get("error", 0)
        Path(target).write_text(f"{passed} passed, {failed} failed, {count.get('skipped', 0)} skipped\n")


@pytest.fixture(scope="session", params=["1.3", "1.2"])
def family(request: pytest.FixtureRequest) -> str:
    """Both families of the runtime's interface, one after the other."""
    return str(request.param)


def scripted_library(family: str) -> Path:
    return ROOT / "build" / f"librkllmrt-scripted{'' if family == '1.3' else f'-{family}'}.so"


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start servers of one's own: `serve(family="1.3", host="gevent", MAX_QUEUE="2", …)`; all are ended again."""
    servers: list[Server] = []

    def start(*, family: str = "1.3", host: str = "gevent", models: dict[str, str] | None = None, **env: str) -> Server:
        folder = tmp_path / f"server{len(servers)}"
        server = start_server(folder, library=scripted_library(family), host=host, models=models, env=env)
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.end()


@pytest.fixture(scope="session")
def scripted_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Server]]:
    """Servers by family, each started when it is first wanted."""
    servers: dict[str, Server] = {}

    def of(family: str) -> Server:
        if family not in servers:
            folder = tmp_path_factory.mktemp(f"scripted-{family}")
            servers[family] = start_server(folder, library=scripted_library(family))
        return servers[family]

    yield of
    for server in servers.values():
        server.end()


@pytest.fixture(scope="session")
def scripted(family: str, scripted_servers: Callable[[str], Server]) -> Server:
    """One server on the scripted runtime of each family, under gunicorn's gevent worker, shared by many tests."""
    return scripted_servers(family)


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server with a real model on the CPU runtime, one thread."""
    folder = tmp_path_factory.mktemp("real")
    env = {"RKLLM_CPU_THREADS": "1", "DEFAULT_MODEL": "smollm2-135m-instruct"}
    server = start_server(folder, library=None, env=env)
    yield server
    server.end()
