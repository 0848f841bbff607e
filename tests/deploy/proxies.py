"""The installed proxies with the configuration files of conf/, as little changed as a test machine needs."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.serving import ROOT, free_port


def installed(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")


_MAIN = """\
{user}
worker_processes 2;
daemon off;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


@contextmanager
def nginx(folder: Path, site: str, changes: dict[str, str]) -> Iterator[str]:
    """Run nginx with one of the shipped site files and a certificate of its own; gives the URL.

    `changes` replace what an operator would: each has to be there.
    """
    folder.mkdir(exist_ok=True)
    _make_certificate(folder)
    port = free_port()
    shipped = ROOT / "conf" / "nginx"
    changes = {
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "    listen [::]:443 ssl http2;\n": "",
        "/etc/ssl/rkllama": str(folder),
    } | changes
    (folder / "site.conf").write_text(changed(shipped / site, changes))
    shutil.copytree(shipped / "rkllama", folder / "rkllama")
    user = "user root;" if os.geteuid() == 0 else ""  # or its workers could not reach the test's folder
    (folder / "nginx.conf").write_text(_MAIN.format(folder=folder, user=user))
    program = installed("nginx")
    assert program is not None
    with running([program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"], folder, port):
        yield f"https://127.0.0.1:{port}"


@contextmanager
def haproxy(folder: Path, changes: dict[str, str]) -> Iterator[str]:
    """Run HAProxy with the shipped file, without TLS; gives the URL."""
    folder.mkdir(exist_ok=True)
    port = free_port()
    bind = "bind :443 ssl crt /etc/ssl/rkllama/both.pem alpn h2,http/1.1"
    text = changed(ROOT / "conf" / "haproxy" / "cluster.cfg", {bind: f"bind 127.0.0.1:{port}"} | changes)
    (folder / "haproxy.cfg").write_text(text)
    program = installed("haproxy")
    assert program is not None
    with running([program, "-db", "-f", str(folder / "haproxy.cfg")], folder, port):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def running(command: list[str], folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A program that listens on `port`, until the end; what it says goes to `folder/proxy.log`."""
    with (folder / "proxy.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 20
        while not _listens(port):
            assert process.poll() is None, (folder / "proxy.log").read_text()
            assert time.monotonic() < deadline, (folder / "proxy.log").read_text()
            time.sleep(0.02)
        yield process
    finally:
        process.terminate()
        process.wait(10)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def changed(path: Path, changes: dict[str, str]) -> str:
    """A file's text with each of the changes made; what is to be changed has to be there."""
    text = path.read_text()
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


def _make_certificate(folder: Path) -> None:
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1"
    files = ["-keyout", str(folder / "privkey.pem"), "-out", str(folder / "fullchain.pem")]
    subject = ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command.split(), *subject, *files], check=True, capture_output=True)
