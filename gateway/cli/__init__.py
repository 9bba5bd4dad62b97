"""The ``gateway`` command.

Exit codes: 0 done; 1 what was asked for failed (a fault, a problem, a port in use); 2 the command line is wrong.

Each module has the commands of one purpose; loading.py has what they share.
"""

import click

from gateway.cli import (
    agents,
    callers,
    calling,
    checking,
    creating,
    deploying,
    explaining,
    listing,
    publishing,
    replaying,
    serving,
    stubbing,
)
from gateway.codecs import IMPLEMENTATION


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(
    package_name="callgate", prog_name="gateway", message=f"%(prog)s, version %(version)s, {IMPLEMENTATION} codec"
)
def main() -> None:
    """Serve Python functions to XML-RPC and JSON-RPC 2.0 callers, on one URL."""


for _command in (
    serving.serve,
    listing.methods,
    listing.upstreams,
    callers.callers,
    checking.check,
    explaining.explain,
    explaining.errors,
    deploying.nginx,
    checking.reload_,
    checking.rollback,
    publishing.publish,
    publishing.drain,
    publishing.undrain,
    deploying.key,
    deploying.uwsgi_,
    calling.call,
    replaying.replay,
    agents.mcp_,
    stubbing.stubs,
    creating.new,
):
    main.add_command(_command)
