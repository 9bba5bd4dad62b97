"""A Tornado handler that blocks the loop, as happens to people who call something slow in it.

python -m benchmarks.concurrency.servers.blocking_tornado PORT
"""

import asyncio
import sys
import time
import xmlrpc.client
from collections.abc import Awaitable

from tornado.web import Application, RequestHandler


class Handler(RequestHandler):
    """XML-RPC by xmlrpc.client; there is only one method."""

    def post(self) -> Awaitable[None] | None:
        """Sleep for as long as the call says, and everybody else waits."""
        (seconds,), _ = xmlrpc.client.loads(self.request.body)
        time.sleep(float(str(seconds)))
        self.set_header("Content-Type", "text/xml")
        self.write(xmlrpc.client.dumps(("done",), methodresponse=True))
        return None


async def main() -> None:
    """Serve until terminated."""
    Application([("/RPC2", Handler)]).listen(int(sys.argv[1]), "127.0.0.1")
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
