"""The Flask blueprint: the program of old Flask extensions, and an endpoint beside other pages of an app."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import flask
import pytest
from flask import Flask, request
from flask.testing import FlaskClient

from gateway import Context, RegistrationError, Registry, endpoint
from gateway.config import ConfigError
from gateway.hosts.flask import blueprint
from tests.deploy.uwsgi import until
from tests.serving import free_port
from tests.test_origins import ROOT, output, running

registry = Registry()
ADD = {"jsonrpc": "2.0", "method": "add", "params": [2, 3], "id": 1}


@registry.register(run="inline")
def add(a: int, b: int) -> int:
    return a + b


def client(**options: Any) -> FlaskClient:
    """Make an app with pages of its own and an endpoint, and a client of it."""
    app = Flask(__name__)
    app.add_url_rule("/", "home", lambda: "home")
    app.register_blueprint(blueprint(endpoint(registry)), **options)
    return app.test_client()


def answered(app: FlaskClient, path: str, call: dict[str, Any] = ADD, **options: Any) -> Any:
    """Make a call, and return what it comes to: its result, or the code of its error."""
    answer = json.loads(app.post(path, json=call, **options).data)
    return answer["result"] if "result" in answer else answer["error"]["code"]


GREETER = """
    from flask import Flask
    from werkzeug.serving import make_server

    from gateway import Fault, Registry, endpoint
    from gateway.hosts.flask import blueprint

    app = Flask(__name__)
    handler = Registry()
    app.register_blueprint(blueprint(endpoint(handler)))

    @handler.register
    def woca(name="world"):
        if not name:
            raise Fault(1, "a name is needed")
        return "Hello, %s!" % name

    server = make_server("127.0.0.1", 0, app, threaded=True)
    print("ready at http://127.0.0.1:%d/api" % server.port, flush=True)
    server.serve_forever()
"""
CALLER = """
    import sys
    from xmlrpc.client import Fault, ServerProxy

    server = ServerProxy(sys.argv[1])
    print(server.woca())
    print(server.woca("Ada"))
    try:
        server.woca("")
    except Fault as fault:
        print(fault.faultCode, fault.faultString)
"""


def test_a_few_lines_put_a_handler_into_an_app_and_its_clients_call_it(tmp_path: Path) -> None:
    with running([sys.executable, "-c", textwrap.dedent(GREETER)], tmp_path) as url:
        assert output(CALLER, url) == ["Hello, world!", "Hello, Ada!", "1 a name is needed"]


def test_the_page_on_moving_says_what_happens(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "migrating.md").read_text("utf-8").partition("<!-- flask: moved -->\n")[2]
    program, console = page.split("```python\n")[1].split("```")[0], page.split("```text\n")[1].split("```")[0]
    (tmp_path / "moved.py").write_text(program)
    serve, *examples = console.split("$ ")[1:]
    port = str(free_port())
    command = [str(Path(sys.executable).parent / word) if word == "flask" else word for word in serve.split()[:-1]]
    log = tmp_path / "flask.log"
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            [port if word == "8000" else word for word in command], cwd=tmp_path, stdout=errors, stderr=errors
        ) as server,
    ):
        try:
            until(lambda: "Running on" in log.read_text() or server.poll() is not None)
            assert len(examples) == 2
            for example in examples:
                typed, _, expected = example.partition("\n")
                assert printed_by(typed.replace(":8000", f":{port}")) == expected
        finally:
            server.terminate()


def printed_by(command: str) -> str:
    """Type a command into a shell, and return what it prints."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    shell = ["/bin/bash", "-c", command]
    done = subprocess.run(
        shell, capture_output=True, text=True, timeout=60, check=True, env={**os.environ, "PATH": path}
    )
    return f"{done.stdout.rstrip()}\n"


def test_it_speaks_both_protocols_at_the_paths_of_the_endpoint_and_leaves_the_root_to_the_app() -> None:
    app = client()
    for path in ("/api", "/RPC2", "/jsonrpc"):
        assert app.post(path, json=ADD).json == {"jsonrpc": "2.0", "result": 5, "id": 1}
    xml = b"<methodCall><methodName>nowhere</methodName></methodCall>"
    response = app.post("/api", data=xml, content_type="text/xml")
    assert response.headers["Content-Type"] == "text/xml; charset=utf-8"
    assert b"-32601" in response.data
    assert app.get("/").data == b"home"
    assert app.post("/", json=ADD).status_code == 405


@pytest.mark.parametrize("verb", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_the_endpoint_answers_all_verbs_itself(verb: str) -> None:
    response = client().open("/api", method=verb)
    assert response.status_code == 405
    assert response.headers["Allow"] == "POST"
    assert "X-Request-ID" in response.headers
    assert (response.data == b"") == (verb == "HEAD")


@pytest.mark.parametrize("path", ["/api/", "/other", "/healthz"])
def test_what_is_no_path_of_the_endpoint_is_the_apps_own(path: str) -> None:
    response = client().post(path, json=ADD)
    assert response.status_code == 404
    assert b"<!doctype html>" in response.data


def test_a_prefix_comes_before_the_paths() -> None:
    app = client(url_prefix="/rpc")
    assert answered(app, "/rpc/api") == 5
    assert app.post("/api", json=ADD).status_code == 404


def test_paths_may_be_given_and_two_endpoints_are_side_by_side() -> None:
    other = Registry()
    other.register(lambda: "other", name="which", run="inline")
    app = Flask(__name__)
    app.register_blueprint(blueprint(endpoint(registry), ["/first", "/"]))
    app.register_blueprint(blueprint(endpoint(other), ["/second"], "other"))
    caller = app.test_client()
    assert answered(caller, "/first") == answered(caller, "/") == 5
    assert answered(caller, "/second", {**ADD, "method": "which", "params": []}) == "other"
    assert answered(caller, "/second") == -32601


def test_an_endpoint_that_has_only_the_root_wants_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_SERVER_PATHS", "/")
    with pytest.raises(ValueError, match="give others"):
        blueprint(endpoint(registry))


def test_access_and_limits_are_those_of_the_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_ACCESS_ALLOW", "10.0.0.0/8")
    monkeypatch.setenv("GATEWAY_LIMITS_MAX_BODY", "1024")
    app = client()
    assert app.post("/api", json=ADD).status_code == 403
    near = {"REMOTE_ADDR": "10.1.2.3"}
    assert answered(app, "/api", environ_base=near) == 5
    page = app.post("/api", json=ADD, environ_base=near, headers={"Origin": "https://evil.example"})
    assert page.status_code == 403
    large = app.post("/api", data=b" " * 2000, content_type="application/json", environ_base=near)
    assert large.status_code == 413
    assert json.loads(large.data)["error"]["code"] == -32006


def test_a_body_that_a_hook_has_read_is_no_call() -> None:
    app = Flask(__name__)
    app.register_blueprint(blueprint(endpoint(registry)))
    app.before_request(lambda: request.get_data() and None)
    response = app.test_client().post("/api", json=ADD)
    assert response.status_code == 400
    assert json.loads(response.data)["error"]["code"] == -32600


def test_an_endpoint_is_made_of_modules_and_registries() -> None:
    app = Flask(__name__)
    own = Registry()
    own.register(lambda: "own", name="own", run="inline")
    app.register_blueprint(blueprint(endpoint("handlers.greeting", own)))
    caller = app.test_client()
    assert answered(caller, "/api", {**ADD, "method": "own", "params": []}) == "own"
    assert answered(caller, "/api", {**ADD, "method": "woca", "params": []}) == "Hello, world!"


def test_what_is_wrong_with_an_endpoint_is_said_when_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RegistrationError):
        endpoint(registry, registry)
    monkeypatch.setenv("GATEWAY_LIMITS_TIMEOUT", "soon")
    with pytest.raises(ConfigError, match="GATEWAY_LIMITS_TIMEOUT"):
        endpoint(registry)


@pytest.mark.parametrize("run", ["thread", "async", "inline"])
def test_a_method_sees_flask_s_request_and_what_hooks_have_put_there(run: str) -> None:
    """docs/migrating.md says so."""
    app, handler = Flask("shop"), Registry()

    def seen() -> list[str]:
        return [flask.g.user, flask.request.headers["X-Who"], flask.current_app.name]

    async def seen_later() -> list[str]:
        return seen()

    if run == "async":
        handler.register(seen_later, name="seen")
    else:
        handler.register(seen, run="inline" if run == "inline" else "thread")
    app.register_blueprint(blueprint(endpoint(handler)))
    app.before_request(lambda: setattr(flask.g, "user", "ada"))
    body = {"jsonrpc": "2.0", "method": "seen", "id": 1}
    answer = app.test_client().post("/api", json=body, headers={"X-Who": "me"})
    assert answer.get_json()["result"] == ["ada", "me", "shop"]


def test_a_method_has_the_request_itself_and_the_app_may_say_who_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_ACCESS_KEYS", '{"ada": "sha256:%s"}' % ("0" * 64))
    app, handler = Flask(__name__), Registry()

    @handler.register(name="whoami")
    def whoami(context: Context) -> list[str | None]:
        request = context.request
        assert isinstance(request, flask.Request)
        return [request.headers["X-User"], context.key]

    app.register_blueprint(blueprint(endpoint(handler), user=lambda: request.headers.get("X-User") or None))
    body = {"jsonrpc": "2.0", "method": "whoami", "id": 1}
    answer = app.test_client().post("/api", json=body, headers={"X-User": "bob"})
    assert answer.get_json()["result"] == ["bob", "bob"]
    assert app.test_client().post("/api", json=body, headers={"X-User": ""}).status_code == 401
