"""Values of the configuration that may stand elsewhere: in a file, or in the environment. They are never shown.

headers = { Authorization = { file = "/run/secrets/billing" }, X-Key = { env = "BILLING_KEY" } }
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from gateway.upstreams import UpstreamConfigError


class Secret(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a value is read from when the gateway starts or reloads: a file, or a variable of the environment.

    Attributes:
        file: a path; line ends at the end of the file do not count.
        env: the name of a variable.

    Raises:
        ValueError: there is none of the two, or both.

    """

    file: str = ""
    env: str = ""

    def __post_init__(self) -> None:
        """Check that it is one of the two."""
        if bool(self.file) == bool(self.env):
            raise ValueError("file or env, one of the two")


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
        read = Path(value.file).read_text("utf-8").rstrip("\r\n") if value.file else os.environ[value.env]
    except KeyError:
        raise UpstreamConfigError(f"{where}: the environment has no variable {value.env}") from None
    except OSError as error:
        raise UpstreamConfigError(
            f"{where}: {value.file} cannot be read: {str(error.strerror or error).lower()}"
        ) from None
    except UnicodeDecodeError:
        raise UpstreamConfigError(f"{where}: {value.file} is not text in UTF-8") from None
    if not read or not form.fullmatch(read):
        raise UpstreamConfigError(f"{where}: what {value.file or value.env} has cannot be sent: it must be one line")
    return read
