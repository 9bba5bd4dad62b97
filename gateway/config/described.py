"""What a gateway reports of its configuration when it starts: the file that was read, and who may call."""

from gateway.config import Config
from gateway.config.sources import DEFAULT_FILE


def origin(config: Config) -> str:
    """Name the configuration file that was read, or say that there is none."""
    return str(config.file) if config.file is not None else f"no file ({DEFAULT_FILE} does not exist)"


def callers(config: Config) -> str:
    """Say who may call, in one phrase."""
    access = config.access
    who = "everybody who can reach it"
    if config.tls.client_ca:
        who = "clients with a certificate"
    if access.authenticate:
        who = f"whom {access.authenticate} lets in"
    if access.keys and not access.anonymous:
        who += ", with an API key" if config.tls.client_ca else " and has an API key"
    if access.allow:
        who += f", from {', '.join(map(str, access.allow))}"
    if access.rules:
        who += f"; {len(access.rules)} rule{'s'[: len(access.rules) != 1]} for methods"
    return who


def described(config: Config) -> str:
    """Return one line for the start of a gateway."""
    return f"configuration: {origin(config)}; who may call: {callers(config)}"
