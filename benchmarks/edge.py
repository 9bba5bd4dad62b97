"""``make edge``: nginx in front of the gateway's workers, on free ports of 127.0.0.1, until Ctrl-C or SIGTERM.

Both run as the present user, with all that they write in one folder, and a certificate that is made for localhost. What
else is given are arguments of ``gateway serve``: modules, and options of the configuration, which both are told.

    with edge(folder) as running: ...    both of them, as tests and comparisons use it
    with nginx(folder, settings): ...    nginx alone, before whatever ``nginx.servers`` names
"""

import argparse
import os
import pwd
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from msgspec import Struct

ROOT = Path(__file__).parents[1]
_GATEWAY = (sys.executable, "-m", "gateway")
_PATH = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin"  # where nginx is; users' paths often leave it out
_STOP = 20.0  # seconds to end; calls that run have server.drain of them


class Edge(Struct, frozen=True, kw_only=True):
    """An nginx that runs.

    Attributes:
        port: where it listens for HTTPS, on 127.0.0.1.
        folder: where its files are: nginx.conf, access.log, error.log, nginx.pid.
        certificate: the file that its clients trust.
        nginx: the process.
        gateway: the process behind it, if it was started with it, which writes gateway.log into the folder.

    """

    port: int
    folder: Path
    certificate: Path
    nginx: subprocess.Popen[str]
    gateway: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """Where calls are POSTed."""
        return f"https://localhost:{self.port}/api"

    def client(self) -> ssl.SSLContext:
        """Make a TLS client that trusts it."""
        return ssl.create_default_context(cafile=self.certificate)


@contextmanager
def edge(
    folder: Path, modules: Sequence[str] = (), settings: Sequence[str] = (), environment: dict[str, str] | None = None
) -> Iterator[Edge]:
    """Run a gateway, and nginx in front of it.

    Raises:
        RuntimeError: one of them does not start; it says why.

    """
    trusting = ["access.trusted_proxies=127.0.0.1", "metrics.bind=", *settings]
    command = [*_GATEWAY, "serve", *modules, *_set([*trusting, "server.bind=127.0.0.1:0"])]
    with (folder / "gateway.log").open("w") as log:
        gateway = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
        )
    try:
        assert gateway.stdout is not None  # noqa: S101 - it is a pipe
        ready = gateway.stdout.readline()
        if "http://" not in ready:
            raise RuntimeError(f"the gateway does not start: {(folder / 'gateway.log').read_text()}")
        bound = ready.partition("http://")[2].partition("/")[0]
        with nginx(folder, [*trusting, f"server.bind={bound}"], modules) as running:
            yield Edge(
                port=running.port,
                folder=folder,
                certificate=running.certificate,
                nginx=running.nginx,
                gateway=gateway,
            )
    finally:
        _end(gateway)


@contextmanager
def nginx(folder: Path, settings: Sequence[str], modules: Sequence[str] = ()) -> Iterator[Edge]:
    """Run an nginx that is configured by ``gateway nginx``.

    It is handed a socket that listens already, so no other process can take its port before it does.

    Raises:
        RuntimeError: nginx is not there, or does not start; it says why.

    """
    command = program("nginx")
    certificate, key = certified(folder)
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        listener.settimeout(0)  # a worker of nginx that comes too late for a connection would wait for the next one
        port = listener.getsockname()[1]
        given = [*own_files(folder), f"nginx.listen=127.0.0.1:{port}", f"nginx.certificate={certificate}"]
        rendered = [*_GATEWAY, "nginx", *modules, *_set([*given, f"nginx.key={key}", *settings])]
        text = subprocess.run(rendered, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
        (folder / "nginx.conf").write_text(text)
        number = listener.fileno()
        process = subprocess.Popen(
            [command, "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"],
            env={**os.environ, "NGINX": f"{number};"},  # as nginx hands its sockets to a new version of itself
            pass_fds=[number],
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
    try:
        running = Edge(port=port, folder=folder, certificate=certificate, nginx=process)
        _wait_for(running)
        yield running
    finally:
        _end(process)


def program(name: str) -> str:
    """Find a program.

    Raises:
        RuntimeError: it is not there.

    """
    found = shutil.which(name, path=_PATH)
    if found is None:
        raise RuntimeError(f"{name} is needed; on Debian: apt-get install {name}")
    return found


def certified(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for localhost that vouches for itself."""
    certificate, key = folder / "localhost.pem", folder / "localhost.key"
    if not certificate.exists():
        made = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -days 30 -subj /CN=localhost"
        names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
        usage = "keyUsage=critical,digitalSignature,keyCertSign"
        files = ["-keyout", str(key), "-out", str(certificate)]
        command = [program("openssl"), *made.split(), "-addext", names, "-addext", usage, *files]
        subprocess.run(command, check=True, capture_output=True)
    return certificate, key


def own_files(folder: Path) -> list[str]:
    """Return the options of an nginx that is the present user's, with all that it writes in one folder."""
    user = pwd.getpwuid(os.geteuid()).pw_name if os.geteuid() == 0 else ""
    _, descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = [] if descriptors > 32_000 else [f"nginx.clients={max(1, (descriptors - 1024) // 3)}"]
    files = [f"nginx.access_log={folder}/access.log", f"nginx.error_log={folder}/error.log", f"nginx.folder={folder}"]
    return [f"nginx.user={user}", *few, *files]


def _wait_for(running: Edge) -> None:
    """Wait until nginx shakes hands."""
    context = running.client()
    for _ in range(3):
        try:
            with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
                context.wrap_socket(connection, server_hostname="localhost").close()
        except OSError:
            if running.nginx.poll() is not None:
                break
        else:
            return
    errors = running.folder / "error.log"
    raise RuntimeError(f"nginx does not start: {errors.read_text() if errors.exists() else 'it says nothing'}")


def _set(settings: Iterable[str]) -> list[str]:
    return [part for setting in settings for part in ("--set", setting)]


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(_STOP)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    with suppress(ProcessLookupError):  # the workers of an nginx that was killed go on without it
        os.killpg(process.pid, signal.SIGKILL)
    if process.stdout is not None:
        process.stdout.close()


def _described(running: Edge) -> str:
    xml = "<methodCall><methodName>system.listMethods</methodName></methodCall>"
    json = '{"jsonrpc":"2.0","method":"system.listMethods","id":1}'
    trusting = f"--cacert {running.certificate}"
    return (
        f"edge: nginx is ready at {running.url}. To call it:\n"
        f"  curl {trusting} -H 'Content-Type: text/xml' -d '{xml}' {running.url}\n"
        f"  curl {trusting} -H 'Content-Type: application/json' -d '{json}' {running.url}\n"
        f'  {sys.executable} -c "import ssl; from xmlrpc.client import ServerProxy as S;'
        f" print(S('{running.url}', context=ssl.create_default_context(cafile='{running.certificate}'))"
        '.system.listMethods())"\n'
        f"Both write into {running.folder}: access.log, error.log, gateway.log. Ctrl-C stops them."
    )


def _watch(running: Edge) -> None:
    """Wait for Ctrl-C or SIGTERM, or for one of both to end."""
    for number in (signal.SIGTERM, signal.SIGINT):  # a shell's background jobs begin with SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    processes = {"nginx": running.nginx, "the gateway": running.gateway}
    try:
        while True:
            for name, process in processes.items():
                if process is not None and process.poll() is not None:
                    raise RuntimeError(f"{name} has ended; its log is in {running.folder}")
            time.sleep(0.2)
    except KeyboardInterrupt:
        return


def main() -> None:
    """Run both until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="whose methods are served; handlers if none")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="NAME=VALUE")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gateway-edge-") as folder:
        settings = ["server.workers=auto", *arguments.settings]
        try:
            with edge(Path(folder), arguments.modules, settings) as running:
                print(_described(running), flush=True)
                _watch(running)
        except RuntimeError as error:
            sys.exit(f"edge: {error}")


if __name__ == "__main__":
    main()
