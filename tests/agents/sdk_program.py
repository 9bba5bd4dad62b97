"""The Python SDK of MCP, older or newer: python -m tests.agents.sdk_program URL KEY, or a command that serves by stdio.

Calls come on standard input, as JSON: ``[[tool, arguments], ...]``. It prints what the SDK has made of everything, as
JSON: the revision, the tools as its own types have them, and for each call a text, whether it is an error, and the
messages of its progress.
"""

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from importlib.metadata import version
from typing import Any

import mcp  # type: ignore[import-not-found]

URL, KEY, *COMMAND = sys.argv[1:]


async def older(calls: list[Any]) -> dict[str, Any]:
    """Do it with 1.x, which begins with ``initialize``."""
    from mcp.client.stdio import stdio_client  # type: ignore[import-not-found]
    from mcp.client.streamable_http import streamablehttp_client  # type: ignore[import-not-found]

    if COMMAND:
        transport = stdio_client(mcp.StdioServerParameters(command=COMMAND[0], args=COMMAND[1:]))
    else:
        transport = streamablehttp_client(URL, headers={"Authorization": f"Bearer {KEY}"})
    async with transport as streams, mcp.ClientSession(streams[0], streams[1]) as session:
        begun = await session.initialize()
        return {"revision": begun.protocolVersion, **await told(session, calls)}


async def newer(calls: list[Any]) -> dict[str, Any]:
    """Do it with 2.x, which asks ``server/discover`` first."""
    import httpx2  # type: ignore[import-not-found]
    from mcp.client.streamable_http import streamable_http_client

    async with AsyncExitStack() as stack:
        if COMMAND:
            server: Any = mcp.StdioServerParameters(command=COMMAND[0], args=COMMAND[1:])
        else:
            http = await stack.enter_async_context(httpx2.AsyncClient(headers={"Authorization": f"Bearer {KEY}"}))
            server = streamable_http_client(URL, http_client=http)
        client = await stack.enter_async_context(mcp.Client(server))
        return {"revision": client.protocol_version, **await told(client, calls)}


async def told(session: Any, calls: list[Any]) -> dict[str, Any]:
    tools = (await session.list_tools()).tools
    results, said = [], []
    for tool, arguments in calls:
        said.append(progress := list[Any]())

        async def note(done: float, total: float | None, message: str | None, to: list[Any] = progress) -> None:
            to.append([done, total, message])

        results.append(await session.call_tool(tool, arguments, progress_callback=note))
    return {
        "tools": {tool.name: tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in tools},
        "results": [
            [result.content[0].text, bool(getattr(result, "isError", getattr(result, "is_error", None))), progress]
            for result, progress in zip(results, said, strict=True)
        ],
    }


play = older if version("mcp").startswith("1.") else newer
sys.stdout.write(json.dumps(asyncio.run(play(json.load(sys.stdin)))))
