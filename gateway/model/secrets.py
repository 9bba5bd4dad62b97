"""Values of the configuration that may stand elsewhere: in a file, or in the environment. They are never shown.

login = { file = "/run/secrets/zookeeper" }
"""

import os
from pathlib import Path

from msgspec import Struct


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

    @property
    def place(self) -> str:
        """The file or the variable."""
        return self.file or self.env

    def read(self) -> str:
        """Read the value.

        Raises:
            ValueError: it cannot be read; the message has no secret in it.

        """
        try:
            return Path(self.file).read_text("utf-8").rstrip("\r\n") if self.file else os.environ[self.env]
        except KeyError:
            raise ValueError(f"the environment has no variable {self.env}") from None
        except OSError as error:
            raise ValueError(f"{self.file} cannot be read: {str(error.strerror or error).lower()}") from None
        except UnicodeDecodeError:
            raise ValueError(f"{self.file} is not text in UTF-8") from None
