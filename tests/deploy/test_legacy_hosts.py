"""conf/uwsgi and conf/apache under the real programs: what works there too, and what does not."""

import contextlib
import os
import shutil
import stat
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.conftest import scripted_library
from tests.deploy.proxies import changed, installed
from tests.deploy.streams import assert_tokens_arrive_one_by_one, leave_a_stream
from tests.hosts.test_clients_that_leave import send
from tests.hosts.test_hosts import chat
from tests.serving import ROOT, Server, free_port, start_server, wait_for

_APACHE = """\
ServerRoot {folder}
PidFile {folder}/pid
ErrorLog {folder}/error.log
Listen 127.0.0.1:{port}
{modules}
{user}
WSGISocketPrefix {folder}/wsgi
"""
_MODULES = Path("/usr/lib/apache2/modules")


def uwsgi(folder: Path, port: int) -> list[str]:
    program = Path(sys.executable).with_name("pyuwsgi")
    if not program.exists():
        pytest.skip("uWSGI is not installed")
    text = changed(
        ROOT / "conf" / "uwsgi" / "rkllama.ini", {"127.0.0.1:8080": f"127.0.0.1:{port}", "%d../..": str(ROOT)}
    )
    (folder / "uwsgi.ini").write_text(text)
    return [str(program), "--ini", str(folder / "uwsgi.ini")]


def apache(folder: Path, port: int) -> list[str]:
    program = installed("apache2")
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if program is None or not (_MODULES / f"mod_wsgi.so-{version}").exists():
        pytest.skip(f"Apache with mod_wsgi for Python {version} is not installed")
    packages = sysconfig.get_path("purelib")
    root = os.geteuid() == 0
    if root and not all(path.stat().st_mode & stat.S_IXOTH for path in (ROOT, Path(packages), *ROOT.parents)):
        pytest.skip("Apache's user can't read this folder, and root may not run mod_wsgi")
    site = changed(
        ROOT / "conf" / "apache" / "rkllama.conf",
        {
            "*:80": f"127.0.0.1:{port}",
            "python-home=/opt/rkllama-flask/.venv ": "",  # mod_wsgi's own Python, with this environment's packages
            "python-path=/opt/rkllama-flask": f"python-path={ROOT}:{packages}",
            "user=rkllama group=rkllama ": "",
            "/opt/rkllama-flask": str(ROOT),
        },
    )
    names = ("mpm_event", "authz_core", "wsgi")
    modules = "\n".join(f"LoadModule {name}_module {_MODULES}/mod_{name}.so" for name in names)
    user = "User www-data\nGroup www-data" if root else ""
    main = _APACHE.format(folder=folder, port=port, modules=modules, user=user)
    (folder / "httpd.conf").write_text(main + site)
    return [program, "-DFOREGROUND", "-f", str(folder / "httpd.conf")]


@pytest.fixture(scope="module", params=[uwsgi, apache])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server under the host's own configuration, in a folder that its user can reach."""
    folder = Path(tempfile.mkdtemp(prefix="rkllama-host-"))
    try:
        folder.chmod(0o777)
        port = free_port()
        command = request.param(folder, port)
        started = start_server(folder, library=scripted_library("1.3"), command=command, env={"PORT": str(port)})
        yield started
        started.stop()
    finally:
        shutil.rmtree(folder)


def test_tokens_arrive_one_by_one(server: Server) -> None:
    assert_tokens_arrive_one_by_one(server.url)


def busy(server: Server) -> bool:
    return bool(server.get("/health").json()["busy"])


def test_a_client_that_leaves_a_flowing_stream_stops_the_runtime(server: Server) -> None:
    leave_a_stream(server.url)
    wait_for(lambda: not busy(server), 10, server)
    last = [line for line in server.calls if line.split()[3] == "run_end"][-1]
    assert int(last.split("tokens=")[1].split()[0]) < 3000


def test_a_body_over_the_limit_is_refused_in_the_shape_of_its_api(server: Server) -> None:
    answer = requests.post(f"{server.url}/v1/chat/completions", data=b" " * ((32 << 20) + 1), timeout=60)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "payload_too_large")


@pytest.mark.parametrize("server", [uwsgi], indirect=True)
def test_under_uwsgi_a_client_is_missed_also_while_nothing_is_sent(server: Server) -> None:
    """mod_wsgi has no way to look: there a waiting client's request runs to its end, or to its time limit."""
    with send(server, "<<script tokens=3000 decode_ms=10>>"):
        wait_for(lambda: busy(server), 10, server)
    assert wait_for(lambda: not busy(server), 20, server) < 15  # the answer takes 30 s


def test_after_a_crash_of_the_library_the_host_starts_another_process(server: Server) -> None:
    def answers() -> bool:
        try:
            return server.post("/v1/chat/completions", chat("<<script text=alive>>")).ok
        except requests.ConnectionError:
            return False

    with contextlib.suppress(requests.RequestException):
        server.post("/v1/chat/completions", chat("<<script tokens=9 segv=3>>"))
    wait_for(answers, 30, server)
    inits = [line.split()[1] for line in server.calls if line.split()[3] == "init"]
    assert len(set(inits)) == 2


def test_stopping_the_host_releases_the_runtime(server: Server) -> None:
    """The last test: the engine is closed in an orderly way, not cut off."""
    assert server.post("/v1/chat/completions", chat("<<script text=last>>")).ok
    server.stop()
    assert [line.split()[3] for line in server.calls][-1] == "destroy"
