"""What AI agents are offered: the section ``[mcp]`` of the configuration. gateway/endpoints/mcp serves it."""

from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

from gateway.config.server import URLPath
from gateway.upstreams.options import HIDDEN

_Patterns: TypeAlias = tuple[Annotated[str, Meta(min_length=1)], ...]


class MCPSection(Struct, frozen=True, kw_only=True):
    """The Model Context Protocol: methods as tools of AI agents; docs/agents.md explains it."""

    expose: Annotated[
        _Patterns,
        Meta(
            description="The methods that agents are offered as tools: patterns with * and ?. With none, mcp.path is"
            " not served. Rules and keys hold for agents as for all callers."
        ),
    ] = ()
    hide: Annotated[
        _Patterns, Meta(description="Which of those are not: a method with one of these names is not a tool.")
    ] = HIDDEN
    read_only: Annotated[
        _Patterns,
        Meta(
            description="The methods that change nothing: patterns with * and ?. Agents may call them without asking"
            " their users."
        ),
    ] = ()
    instructions: Annotated[
        str,
        Meta(
            max_length=10_000,
            description='A text for agents about all of the tools, at most 10,000 characters; "" for none.',
        ),
    ] = ""
    path: Annotated[URLPath, Meta(description="The path that agents POST their messages to.")] = "/mcp"
