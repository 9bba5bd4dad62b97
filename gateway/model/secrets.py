"""Secrets of the configuration, which may be elsewhere than in gateway.toml.

file:/run/secrets/zookeeper     the file's first line
env:ZOOKEEPER_LOGIN             the environment variable's value
anything else                   the text itself
"""

import os
from pathlib import Path


def secret(text: str) -> str:
    """Return the secret that a text of the configuration is, or names.

    Raises:
        ValueError: the file or the variable cannot be read, or is empty; the message has no secret in it.

    """
    kind, colon, name = text.partition(":")
    if not colon or kind not in ("file", "env"):
        return text
    if kind == "env":
        found = os.environ.get(name, "")
    else:
        try:
            found = Path(name).read_text("utf-8").partition("\n")[0].strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror.lower() if isinstance(error, OSError) and error.strerror else "it is not UTF-8"
            raise ValueError(f"the file {name} cannot be read: {reason}") from None
    if not found:
        raise ValueError(f"the {'file' if kind == 'file' else 'environment variable'} {name} is empty")
    return found
