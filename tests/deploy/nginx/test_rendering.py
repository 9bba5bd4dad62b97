"""What nginx is told: the configuration that ``gateway nginx`` prints."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.edge import certified, own_files, program
from gateway.config import OPTIONS, load
from gateway.deploy.nginx import warnings
from tests.deploy.nginx.edging import rendered

ROOT = Path(__file__).parents[3]


def run_gateway(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gateway", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.processes
def test_the_rendering_of_the_default_is_the_one_in_conf() -> None:
    run = run_gateway("nginx", "--config", "conf/gateway.toml")
    assert run.returncode == 0
    assert run.stdout == (ROOT / "conf" / "nginx.conf").read_text(), "gateway nginx > conf/nginx.conf"
    assert run.stderr.startswith("gateway: warning: the gateway at 127.0.0.1:8000 does not trust nginx: ")


def test_it_waits_as_long_as_the_slowest_method_may_take() -> None:
    run = run_gateway("nginx", "handlers", "--set", "limits.timeout=7", "--set", "access.trusted_proxies=127.0.0.1")
    assert "proxy_read_timeout 30s;" in run.stdout  # asyncSleep has 25 seconds, and the margin is 5
    assert run.stderr == ""


def check_by_nginx(folder: Path, *settings: str, longest: float = 30.0) -> None:
    """Have nginx itself test a rendering."""
    certificate, key = certified(folder)
    files = [f"nginx.certificate={certificate}", f"nginx.key={key}"]
    if os.geteuid() != 0:  # only root writes where the system has its logs, and listens at 443
        files += ["nginx.listen=127.0.0.1:8443", *own_files(folder)]
    elif not Path("/proc/net/if_inet6").exists():
        files += ["nginx.listen=0.0.0.0:443"]
    (folder / "nginx.conf").write_text(rendered(*files, *settings, longest=longest))
    command = [program("nginx"), "-t", "-c", str(folder / "nginx.conf")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "[warn]" not in run.stderr.replace("http2", "")


def test_what_is_rendered_passes_nginx_s_own_test_as_the_only_configuration(tmp_path: Path) -> None:
    check_by_nginx(tmp_path)


def test_so_does_what_has_everything_in_it(tmp_path: Path) -> None:
    networks = ["access.allow=10.0.0.0/8,2001:db8::/32", "nginx.proxies=192.0.2.1,2001:db8::/64"]
    servers = [
        "nginx.servers=10.0.0.11:8000,[2001:db8::1]:8000",
        "nginx.buffer_bodies=true",
        f"nginx.folder={tmp_path}",
    ]
    check_by_nginx(tmp_path, *networks, *servers)


@pytest.mark.parametrize("end", ["lowest", "highest"])
def test_so_does_every_number_at_the_end_of_its_range(end: str, tmp_path: Path) -> None:
    settings = [
        f"{option}={meta.gt + 0.001 if meta.ge is None else meta.ge}" if end == "lowest" else f"{option}={meta.le}"
        for option, hint in OPTIONS.items()
        if option.split(".")[0] in ("limits", "nginx") or option == "server.drain"
        for meta in hint.__metadata__
        if (meta.gt, meta.ge) != (None, None) and meta.le is not None
    ]
    assert len(settings) > 25
    check_by_nginx(tmp_path, *settings, longest=0.001 if end == "lowest" else 86400)


DIRECTIVES = {  # what is configured: what nginx is told
    "limits.head_timeout=3": "client_header_timeout 3s;",
    "limits.body_timeout=2.5": "client_body_timeout 2500ms;",
    "limits.write_timeout=4": "send_timeout 4s;",
    "limits.idle_timeout=55": "keepalive_timeout 55s;",
    "limits.linger=1.5": "lingering_time 1500ms;",
    "limits.max_body=12345": "client_max_body_size 12345;",
    "limits.max_header=1024": "large_client_header_buffers 2 416;",
    "limits.backlog=77": "backlog=77;",
    "limits.retry_after=9": "429 9;",
    "access.allow=10.0.0.0/8,2001:db8::/32": (
        "            allow 10.0.0.0/8;\n            allow 2001:db8::/32;\n            deny all;\n"
    ),
    "server.bind=[::1]:8123": "server [::1]:8123 max_fails=0;",
    "server.bind=[::]:8123": "server [::1]:8123 max_fails=0;",
    "server.bind=:8123": "server 127.0.0.1:8123 max_fails=0;",
    "server.bind=0.0.0.0:8123": "server 127.0.0.1:8123 max_fails=0;",
    "server.bind=:8123,unix:/run/gw.sock": "server unix:/run/gw.sock max_fails=0;",
    "server.bind=systemd,:8123": "server 127.0.0.1:8123 max_fails=0;",
    "nginx.servers=unix:/run/other.sock": "server unix:/run/other.sock max_fails=0;",
    "server.drain=4": "        keepalive 64;\n        keepalive_timeout 2s;\n",
    "nginx.listen=192.0.2.1:8443": "listen 192.0.2.1:8443 ssl http2 ",
    "nginx.server_name=rpc.example": "server_name rpc.example;",
    "nginx.certificate=/a b.pem": "ssl_certificate '/a b.pem';",
    "nginx.key=/it's.key": "ssl_certificate_key '/it\\'s.key';",
    "nginx.tls_protocols=TLSv1.3": "ssl_protocols TLSv1.3;",
    "nginx.servers=a.example:1,b.example:2": (
        "least_conn;\n        server a.example:1 max_fails=0;\n        server b.example:2 max_fails=0;\n"
    ),
    "nginx.proxies=10.1.0.0/24": "set_real_ip_from 10.1.0.0/24;",
    "nginx.buffer_bodies=true": "proxy_request_buffering on;",
    "nginx.connect_timeout=0.5": "proxy_connect_timeout 500ms;",
    "nginx.send_timeout=6": "proxy_send_timeout 6s;",
    "nginx.margin=7": "proxy_read_timeout 37s;",
    "nginx.rate=8": "rate=8r/s;",
    "nginx.burst=3": "limit_req zone=rpc_rate burst=3 nodelay;",
    "nginx.connections=2": "limit_conn rpc_connections 2;",
    "nginx.clients=50": "worker_connections 612;",
    "nginx.user=edge": "user edge;",
    "nginx.access_log=/log": "access_log '/log' rpc;",
    "nginx.access_log=": "access_log off;",
    "nginx.error_log=": "error_log stderr error;",
    "nginx.folder=/run/edge": "client_body_temp_path '/run/edge/client_body';",
}


@pytest.mark.parametrize(("setting", "expected"), DIRECTIVES.items())
def test_every_number_is_the_configuration_s(setting: str, expected: str) -> None:
    assert expected in rendered(setting)
    assert expected not in rendered()


def test_what_is_switched_off_is_not_there() -> None:
    text = rendered("nginx.rate=0", "nginx.connections=0", "nginx.user=", "server.drain=0")
    assert "limit_req zone" not in text
    assert "limit_conn rpc" not in text
    assert "\nuser " not in text
    assert "keepalive 64" not in text  # a gateway that does not wait for the idle would lose what comes on them
    assert not {"deny all;", "real_ip_header", "_temp_path"} & set(text.replace(" ", "\n").splitlines())


IMPOSSIBLE = {
    "server.bind=127.0.0.1:0": "server.bind: port 0 is a free one, which nginx cannot know: choose one",
    "server.bind=systemd,fd:3": (
        "server.bind: nginx cannot know where a socket is that others open: name it in nginx.servers"
    ),
    "tls.certificate=a.pem": (
        "tls.certificate: nginx speaks plain HTTP to the gateway; leave [tls] empty, and set nginx.certificate"
    ),
}


@pytest.mark.processes
@pytest.mark.parametrize(("setting", "problem"), IMPOSSIBLE.items())
def test_a_gateway_that_nginx_could_not_reach(setting: str, problem: str) -> None:
    beside = ["--set", "tls.key=a.pem"] if setting.startswith("tls") else []
    run = run_gateway("nginx", "--set", setting, *beside)
    assert (run.returncode, run.stdout, run.stderr) == (1, "", f"gateway: {problem}\n")


WARNED = {  # where the gateway is, whom it trusts: what is to be added
    ("server.bind=127.0.0.1:1", ""): "add 127.0.0.1 to",
    ("server.bind=127.0.0.1:1", "10.0.0.1"): "add 127.0.0.1 to",
    ("server.bind=127.0.0.1:1", "127.0.0.0/8"): None,
    ("server.bind=localhost:1", "127.0.0.1"): None,
    ("server.bind=[::1]:1", "127.0.0.1"): "add ::1 to",
    ("server.bind=unix:/run/gw.sock", ""): "add 127.0.0.1 to",
    ("server.bind=unix:/run/gw.sock", "127.0.0.1"): None,
    ("nginx.servers=10.0.0.11:1", ""): "add nginx's address to",
    ("nginx.servers=10.0.0.11:1", "10.0.0.1"): None,
    ("nginx.servers=a.example:1", ""): "add nginx's address to",
}


@pytest.mark.parametrize(("settings", "remedy"), WARNED.items())
def test_a_gateway_that_does_not_believe_nginx_is_told_of(settings: tuple[str, str], remedy: str | None) -> None:
    place, trusted = settings
    told = list(warnings(load(None, {}, [place, f"access.trusted_proxies={trusted}"])))
    assert [remedy in text for text in told if remedy] == [True] * (remedy is not None)
    assert len(told) == (remedy is not None)
