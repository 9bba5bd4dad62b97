"""A server that does next to nothing, so that clients can be measured: every call has the result 5.

    python -m benchmarks.answering

It prints where it is ready, reads XML-RPC and JSON-RPC by their first byte, and has a thread for each connection.
"""

import re
import socket
import threading

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nDate: Sun, 29 Nov 2026 12:00:00 GMT\r\nContent-Length: %d\r\n\r\n%b"
_XML = (
    b'<?xml version="1.0" encoding="utf-8"?><methodResponse><params><param><value><int>5</int></value></param></params>'
    b"</methodResponse>"
)
_JSON = b'{"jsonrpc":"2.0","result":5,"id":%b}'
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_ID = re.compile(rb'"id": ?("[^"]*"|[0-9]+)')


def answer(connection: socket.socket) -> None:
    """Answer the calls of a connection until it is closed."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    held = b""
    with connection:
        while data := connection.recv(65536):
            held += data
            head, blank, body = held.partition(b"\r\n\r\n")
            length = _LENGTH.search(head)
            if not blank or length is None or len(body) < int(length[1]):
                continue
            held = b""
            kind, said = b"text/xml", _XML
            if body.startswith(b"{") and (found := _ID.search(body)):
                kind, said = b"application/json", _JSON % found[1]
            connection.sendall(_HEAD % (kind, len(said), said))


def main() -> None:
    """Serve for ever."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listening:
        print(f"ready at http://127.0.0.1:{listening.getsockname()[1]}/", flush=True)
        while True:
            connection, _ = listening.accept()
            threading.Thread(target=answer, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
