"""Who calls which method, over a reload: the counts of workers that have ended stay."""

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from gateway.core.access import make_key
from tests.raw_http import exchange, request
from tests.telemetry.test_callers import ran

pytestmark = [pytest.mark.unmeasured, pytest.mark.slow]

KEY, STORED = make_key()


def test_the_counts_outlive_a_reload(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "gateway.toml").write_text(
        f"""
        [server]
        bind = "127.0.0.1:0"
        workers = 2
        drain = 0.5
        callers = "callers"
        [access]
        keys = {{ odoo = "{STORED}" }}
        anonymous = true
        [versions.stock]
        default = "v1"
        """
    )
    (tmp_path / "served.py").write_text(
        "from gateway import method\n\n\n@method(name='stock.get', version='v1', run='inline')\n"
        "def get() -> int:\n    return 1\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "serve", "served"],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        port = int(process.stdout.readline().partition("127.0.0.1:")[2].partition("/")[0])

        def call(name: str, **headers: str) -> None:
            body = json.dumps({"jsonrpc": "2.0", "method": name, "id": 1}).encode()
            assert exchange(port, request("/api", {"Content-Type": "application/json", **headers}, body)).status == 200

        for _ in range(3):
            call("stock.get", Authorization=f"Bearer {KEY}")
        call("stock.v1.get")
        call("stock.unknown")
        process.send_signal(signal.SIGHUP)
        for line in process.stderr:
            if "reloaded" in line:
                break
        call("stock.get", Authorization=f"Bearer {KEY}")
    finally:
        process.terminate()
        process.communicate(timeout=20)
    shown = partial(
        ran, "--config", str(tmp_path / "conf" / "gateway.toml"), "--set", f"server.callers={tmp_path}/callers"
    )
    table = [line.split() for line in shown("stock.get")[1].splitlines()]
    assert table[0][:2] == ["CALLED", "SERVED"]
    assert table[1][:5] == ["stock.get", "stock.v1.get", "key", "odoo", "4"]
    by_version = shown("*.v1.*")[1].splitlines()
    assert len(by_version) == 5
    assert "stock.v1.get  stock.v1.get  address 127.0.0.1  1" in shown("stock.v1.get")[1]
    assert shown("stock.unknown")[1].startswith("gateway: nobody has called stock.unknown since 20")
