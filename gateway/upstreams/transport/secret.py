"""Values that upstreams are sent, and that may stand elsewhere: in a file, or in the environment.

headers = { Authorization = { file = "/run/secrets/billing" }, X-Key = { env = "BILLING_KEY" } }
"""

import re
from collections.abc import Mapping

from gateway.model.secrets import Secret
from gateway.upstreams import UpstreamConfigError


def revealed(option: str, values: Mapping[str, str | Secret], form: re.Pattern[str]) -> dict[str, str]:
    """Read the values that stand elsewhere.

    Args:
        option: what the values are of, for messages.
        values: by name.
        form: what a value must match.

    Raises:
        UpstreamConfigError: one cannot be read, or cannot be sent; the message never has the value itself.

    """
    return {name: _read(f"{option}.{name}", value, form) for name, value in values.items()}


def _read(where: str, value: str | Secret, form: re.Pattern[str]) -> str:
    if isinstance(value, str):
        return value
    try:
        read = value.read()
    except ValueError as error:
        raise UpstreamConfigError(f"{where}: {error}") from None
    if not read or not form.fullmatch(read):
        raise UpstreamConfigError(f"{where}: what {value.place} has cannot be sent: it must be one line")
    return read
