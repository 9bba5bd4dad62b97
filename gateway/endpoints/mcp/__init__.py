"""The Model Context Protocol (MCP): methods as tools of AI agents, at a path of its own.

    endpoint.py    one POST: judge its head, read a message, answer it
    messages.py    messages and revisions: what is asked for, and what is wrong with it
    tools.py       the methods that are tools, and which of them a caller is shown
    names.py       names that models take
    schemas.py     the JSON Schema of a tool's arguments, without references
    results.py     what became of a call, written for a model

Nothing is kept from one request to the next, so that any worker and any machine can answer it. That is allowed in each
revision of the protocol, from 2024-11-05 (over Streamable HTTP) to 2026-07-28.
"""
