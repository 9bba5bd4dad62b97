"""conf/prometheus-rules.yml and conf/grafana-dashboard.json, with promtool and a Prometheus that reads a gateway."""

import json
import os
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway import Registry
from gateway.telemetry.metrics import FAMILIES
from tests.conftest import Logged
from tests.raw_http import post
from tests.serving import eventually, free_port, serving
from tests.upstreams.jsonrpc.test_tcp import server

pytestmark = [pytest.mark.unmeasured, pytest.mark.slow]

CONF = Path(__file__).parents[2] / "conf"
RULES = CONF / "prometheus-rules.yml"
BOARD: dict[str, Any] = json.loads((CONF / "grafana-dashboard.json").read_text("utf-8"))
QUERIES = [target["expr"] for panel in BOARD["panels"] if panel["type"] != "row" for target in panel["targets"]]
ALERTS = re.findall(r"- alert: (\w+)", RULES.read_text("utf-8"))
NAMES = {
    f"gateway_{name}{suffix}"
    for name, family in FAMILIES.items()
    for suffix in {"Counter": ("_total",), "Histogram": ("_bucket", "_sum", "_count"), "Gauge": ("",)}[family.kind]
} | {"gateway_metrics_torn_files"}
UPSTREAM = 'upstream="up"'
FIRING: dict[str, dict[str, str]] = {  # what lets each alert fire within an hour: series, and their values each minute
    "GatewayDown": {},
    "GatewayCrashes": {'gateway_calls_total{method="add", code="-32603"}': "0+1x60"},
    "GatewayOverloaded": {'gateway_calls_total{method="add", code="-32003"}': "0+1x60"},
    "GatewayDeadlines": {
        'gateway_calls_total{method="add", code="-32001"}': "0+6x60",
        'gateway_calls_total{method="add", code="-"}': "0+94x60",
    },
    "GatewayThreadsStuck": {"gateway_threads_overdue": "11x60"},
    "GatewayWorkersDie": {"gateway_worker_starts_total": "0+1x60", "gateway_workers": "4x60"},
    "GatewayGuessedAt": {'gateway_refusals_total{kind="access"}': "0+90x60"},
    "GatewayMetricsTorn": {"gateway_metrics_torn_files": "1x60"},
    "GatewayUpstreamFails": {
        f'gateway_upstream_attempts_total{{{UPSTREAM}, outcome="late"}}': "0+11x60",
        f'gateway_upstream_attempts_total{{{UPSTREAM}, outcome="ok"}}': "0+89x60",
    },
    "GatewayUpstreamInstancesOut": {
        f'gateway_upstream_instances{{{UPSTREAM}, state="out"}}': "2x60",
        f'gateway_upstream_instances{{{UPSTREAM}, state="listed"}}': "4x60",
    },
    "GatewayUpstreamNoConnection": {f"gateway_upstream_no_connection_total{{{UPSTREAM}}}": "0+1x60"},
    "GatewayUpstreamBudgetEmpty": {f"gateway_upstream_budget_empty_total{{{UPSTREAM}}}": "0+1x60"},
    "GatewayDirectoryStale": {'gateway_directory_age_seconds{directory="zk"}': "301x60"},
}
CALM: dict[str, str] = {  # with which none of them fires
    "gateway_workers": "4x60",
    "gateway_worker_starts_total": "4x60",
    "gateway_threads_overdue": "10x60",
    "gateway_metrics_torn_files": "0x60",
    'gateway_calls_total{method="add", code="-32603"}': "7x60",
    'gateway_calls_total{method="add", code="-32001"}': "0+4x60",
    'gateway_calls_total{method="add", code="-"}': "0+96x60",
    'gateway_refusals_total{kind="access"}': "0+50x60",
    f'gateway_upstream_attempts_total{{{UPSTREAM}, outcome="late"}}': "0+9x60",
    f'gateway_upstream_attempts_total{{{UPSTREAM}, outcome="ok"}}': "0+91x60",
    f'gateway_upstream_instances{{{UPSTREAM}, state="out"}}': "1x60",
    f'gateway_upstream_instances{{{UPSTREAM}, state="listed"}}': "4x60",
    'gateway_directory_age_seconds{directory="zk"}': "299x60",
}


def program(name: str) -> str:
    found = shutil.which(name)
    assert found is not None, f"{name} is needed (Debian's package is prometheus)"
    return found


def names(query: str) -> set[str]:
    return set(re.findall(r"gateway_\w+", query))


def test_the_files_are_about_metrics_that_there_are_and_show_all_of_them() -> None:
    shown = set[str]().union(*map(names, QUERIES))
    asked = names(RULES.read_text("utf-8"))
    asked |= set[str]().union(*(names(each.get("definition", "")) for each in BOARD["templating"]["list"]))
    assert shown | asked <= NAMES
    missing = {
        name
        for name in FAMILIES
        if not any(each.startswith(f"gateway_{name}") for each in shown) and name != "build_info"
    }
    assert not missing
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(ids) == len(set(ids))
    page = (CONF.parent / "docs" / "metrics.md").read_text("utf-8")
    assert all(name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") in page for name in shown)


def test_each_alert_fires_when_it_should_and_is_silent_otherwise(tmp_path: Path) -> None:
    def case(series: dict[str, str], fires: str | None) -> dict[str, Any]:
        return {
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{name}", alertstate="firing"}}) or vector(0)',
                    "eval_time": "40m",
                    "exp_samples": [{"labels": "{}", "value": int(name == fires)}],
                }
                for name in ALERTS
                if fires is None or name == fires
            ],
        }

    assert list(FIRING) == ALERTS
    cases = [case(CALM, None), *(case(series, name) for name, series in FIRING.items())]
    file = tmp_path / "test.yml"
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": cases}))
    run = subprocess.run([program("promtool"), "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """Run Prometheus; yield its port, and that of the gateway's metrics, which it reads."""
    port, metrics = free_port(), free_port()
    config = {
        "global": {"scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "200ms"},
        "rule_files": [str(RULES)],
        "scrape_configs": [{"job_name": "gateway", "static_configs": [{"targets": [f"127.0.0.1:{metrics}"]}]}],
    }
    (tmp_path / "prometheus.yml").write_text(json.dumps(config))
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                program("prometheus"),
                f"--config.file={tmp_path}/prometheus.yml",
                f"--storage.tsdb.path={tmp_path}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
            env={**os.environ, "GOMAXPROCS": "1"},
        )
    try:
        yield port, metrics
    finally:
        process.terminate()
        process.wait(20)


def asked(port: int, path: str, **values: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/{path}?{urllib.parse.urlencode(values)}") as response:
        said = json.load(response)
    assert said["status"] == "success", said
    return said["data"]


def test_every_query_of_the_dashboard_has_an_answer(
    prometheus: tuple[int, int], tmp_path: Path, logged: Logged
) -> None:
    port, metrics = prometheus
    served = Registry()
    served.register(lambda: 1, name="one")
    with server(lambda peer, call: peer.answer(call, 1)) as (first, _), server(lambda *_: None) as (second, _):
        (tmp_path / "list.json").write_text(
            json.dumps([{"address": f"127.0.0.1:{each}"} for each in (first, second, 1)])
        )
        file = tmp_path / "gateway.toml"
        file.write_text(
            f"""
            [metrics]
            bind = "127.0.0.1:{metrics}"
            [directories.list]
            kind = "file"
            path = "{tmp_path}/list.json"
            [upstreams.up]
            url = "jsonrpc+tcp://"
            directory = "list"
            methods = ["get"]
            idempotent = ["get"]
            timeout = {{ get = 0.3 }}
            [record]
            methods = ["one"]
            folder = "{tmp_path}/recordings"
            """
        )
        with serving(served, {"limits.threads": 4}, file) as front:
            # Nobody hangs up here, every call is recorded, and not every run has a second attempt.
            rest = [
                query for query in QUERIES if any(part in query for part in ('"cancelled"', "_extra_", "_dropped_"))
            ]
            wanted = [query for query in QUERIES if query not in rest]

            def call(number: int) -> None:
                for name in ("one", "up.get", "nothing"):
                    sent = {"jsonrpc": "2.0", "method": name, "id": number}
                    post(front.port, json.dumps(sent).encode())
                post(front.port, b"", path="/elsewhere")

            def unanswered() -> list[str]:
                call(1)
                return [query for query in wanted if not asked(port, "query", query=written(query))["result"]]

            def is_up() -> bool:
                try:
                    return bool(asked(port, "query", query="gateway_workers")["result"])
                except OSError:
                    return False

            eventually(is_up, "Prometheus does not read the gateway")
            eventually(lambda: not unanswered(), "a query has no answer")
            for query in rest:
                asked(port, "query", query=written(query))
            rules = asked(port, "rules")["groups"][0]["rules"]
            assert {rule["name"]: rule["health"] for rule in rules} == dict.fromkeys(ALERTS, "ok")
    logged.take("is out of service")


def written(query: str) -> str:
    """Put in what Grafana puts in."""
    query = query.replace("$__rate_interval", "1m")
    return re.sub(r"\$(?:instance|method|upstream)\b", ".*", query)
