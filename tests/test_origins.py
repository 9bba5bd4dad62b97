"""The programs of old articles about RPC in Python, run as they are, with only the URL changed.

Clients and servers are processes of their own. SERVER is the server's program as it was written for the standard
library, and as it is moved to the gateway: the import and the last lines differ.
"""

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = pytest.mark.unmeasured

ROOT = Path(__file__).parent.parent


@contextmanager
def running(command: list[str], folder: Path) -> Iterator[str]:
    """Run a server's program, and tell the URL that it is ready at."""
    log = folder / "server.log"
    with (
        log.open("w") as errors,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True) as server,
    ):
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            assert "ready at http://127.0.0.1:" in line, log.read_text()
            yield line.partition("ready at ")[2].split()[0]
        finally:
            server.terminate()
    assert "Traceback" not in log.read_text()


def output(program: str, url: str) -> list[str]:
    """Run a client's program, and return the lines that it prints."""
    command = [sys.executable, "-c", textwrap.dedent(program), url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the repository's handlers as ``gateway serve`` does."""
    folder = tmp_path_factory.mktemp("handlers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHONEBOOK", str(folder / "phonebook.sqlite"))
        with running([sys.executable, "-m", "gateway", "serve", "--bind", "127.0.0.1:0"], folder) as ready:
            yield ready


# ---- 1: the standard library's XML-RPC -------------------------------------------------------------------------------

CALCULATOR = """
    import sys
    from xmlrpc.client import Fault, MultiCall, ServerProxy

    server = ServerProxy(sys.argv[1])
    print(server.add(10, 5), server.subtract(10, 5), server.multiply(10, 5), server.divide(10, 5))
    print(round(server.divide(7, 3), 4))
    try:
        server.divide(7, 0)
    except Fault:
        print("fault")

    multicall = MultiCall(server)
    multicall.add(7, 3)
    multicall.subtract(7, 3)
    multicall.multiply(7, 3)
    multicall.divide(7, 3)
    result = multicall()
    print("7+3=%d, 7-3=%d, 7*3=%d, 7/3=%f" % tuple(result))

    multicall = MultiCall(server)
    multicall.add(7, 3)
    multicall.divide(7, 0)
    result = multicall()
    print(result[0])
    try:
        result[1]
    except Fault:
        print("fault")
    print({"add", "subtract", "multiply", "divide"} <= set(server.system.listMethods()))
"""
CALCULATED = ["15 5 50 2.0", "2.3333", "fault", "7+3=10, 7-3=4, 7*3=21, 7/3=2.333333", "10", "fault", "True"]

STORE = """
    import sys
    from xmlrpc.client import ServerProxy

    server = ServerProxy(sys.argv[1], allow_none=True)
    print("getObj" in server.system.listMethods(), "sendObj" in server.system.listMethods())
    server.sendObj(None)
    for _ in range(500):
        assert server.getObj() is None
    print("500 gets")
    data = {"name": "Ada", "numbers": list(range(20)), "nothing": None}
    for number in range(500):
        server.sendObj(dict(data, number=number))
    print("500 sends")
    print(server.getObj() == dict(data, number=499))
"""
STORED = ["True True", "500 gets", "500 sends", "True"]

SERVER = """
{head}

def add(x, y):
    return x + y

def subtract(x, y):
    return x - y

def multiply(x, y):
    return x * y

def divide(x, y):
    if y == 0:
        raise Fault(1, "division by zero")
    return x / y

class Store:
    def __init__(self):
        self._data = None

    def getObj(self):
        return self._data

    def sendObj(self, data):
        self._data = data

{server}
server.register_function(add)
server.register_function(subtract, "subtract")
server.register_function(multiply)
server.register_function(lambda x, y: divide(x, y), "divide")
server.register_instance(Store())
{tail}
"""
AS_WRITTEN = SERVER.format(
    head="""
import sys
from socketserver import ThreadingMixIn
from xmlrpc.client import Fault
from xmlrpc.server import SimpleXMLRPCServer

class ThreadingServer(ThreadingMixIn, SimpleXMLRPCServer):
    daemon_threads = True
""",
    server="""
server = ThreadingServer(("127.0.0.1", 0), allow_none=True, logRequests=False)
server.register_introspection_functions()
server.register_multicall_functions()
""",
    tail="""
print("ready at http://127.0.0.1:%d/" % server.server_address[1], flush=True)
server.serve_forever()
""",
)
MOVED = SERVER.format(
    head="from gateway import Fault, Registry, serve", server="server = Registry()", tail='serve(server, "127.0.0.1:0")'
)


@pytest.mark.parametrize(("program", "printed"), [(CALCULATOR, CALCULATED), (STORE, STORED)], ids=["calls", "objects"])
def test_the_standard_librarys_clients_call_the_handlers(url: str, program: str, printed: list[str]) -> None:
    assert output(program, url) == printed


@pytest.mark.parametrize("program", [AS_WRITTEN, MOVED], ids=["as written", "moved"])
def test_a_server_of_the_standard_librarys_moves_and_its_clients_notice_nothing(program: str, tmp_path: Path) -> None:
    with running([sys.executable, "-c", program], tmp_path) as ready:
        assert output(CALCULATOR, ready) == CALCULATED
        assert output(STORE, ready) == STORED


# ---- 2: JSON-RPC over HTTP -------------------------------------------------------------------------------------------

JSON_CLIENT = """
    import itertools
    import json
    import sys
    import urllib.request

    identifiers = itertools.count()

    def call(method, *args, **kwargs):
        request = {"jsonrpc": "2.0", "method": method, "params": kwargs or args, "id": next(identifiers)}
        body = json.dumps(request).encode()
        headers = {"Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(sys.argv[1], body, headers)) as response:
            answer = json.load(response)
        assert answer["jsonrpc"] == "2.0" and answer["id"] == request["id"]
        return answer["result"] if "result" in answer else answer["error"]["code"]
"""


@pytest.mark.parametrize(
    ("expression", "printed"),
    [
        ('call("add", 10, 5)', "15"),
        ('call("add", a=10, b=5)', "15"),
        ('call("divide", 7, 0)', "1"),
        ('call("echo", "hello world")', "hello world"),
        ('call("echo", value="hello world")', "hello world"),
        ('[row["first_name"] for row in call("search", last_name="Python")]', "['Guido', 'Monty']"),
        ('call("search", number="1843")[0]["last_name"]', "Lovelace"),
        ('call("search", None, "Python", "Monty")[0]["number"]', "1969"),
        ('call("search", first_name="Nobody")', "[]"),
        ('call("search")', "-32602"),
        ('call("serach", last_name="Python")', "-32601"),
    ],
)
def test_json_rpc_is_called_by_position_and_by_name(url: str, expression: str, printed: str) -> None:
    assert output(f"{textwrap.dedent(JSON_CLIENT)}\nprint({expression})", url) == [printed]


# ---- 8: a handler that greets ----------------------------------------------------------------------------------------


def test_woca_greets_the_world_or_whom_it_is_told_and_nobody_is_a_fault(url: str) -> None:
    program = """
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
    assert output(program, url) == ["Hello, world!", "Hello, Ada!", "1 a name is needed"]
    calls = "\n".join(f'print(call("woca"{argument}))' for argument in ("", ', name="Ada"', ', ""'))
    printed = output(f"{textwrap.dedent(JSON_CLIENT)}\n{calls}", url)
    assert printed == ["Hello, world!", "Hello, Ada!", "1"]
