"""The words of HTTP that more than one part reads, and the names that are safe to print.

TOKEN         a method, the name of a header (RFC 9110, 5.6.2)
HOST          the value of a Host header, with or without a port (RFC 3986, 3.2.2)
PRINTABLE     a name that callers chose, for a header or a fault
LOGGABLE      the same for a line of the log: letters of any alphabet
host_name     "A.example:8000" -> "a.example"
charset       "text/xml; charset=UTF-8" -> "utf-8"
seconds       the value of a Retry-After header -> seconds
"""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.~!$&'()*+;=%-]*)(?::[0-9]*)?", re.ASCII)  # no comma: that would be two
PRINTABLE = re.compile(r"[\w.:/-]{1,100}", re.ASCII)
LOGGABLE = re.compile(r"[\w.:/-]{1,100}")  # in UTF-8, which headers do not carry
_SECONDS = re.compile(r"[0-9]{1,9}", re.ASCII)
_CHARSET = re.compile(r"""charset\s*=\s*["']?([^"'\s;]+)""", re.IGNORECASE)


def host_name(value: str) -> str:
    """Return the name in a Host header, in lower case and without a port; empty where the header is malformed."""
    match = HOST.fullmatch(value)
    return match[1].lower() if match else ""


def charset(content_type: str) -> str | None:
    """Return the charset parameter of a Content-Type in lower case; None without one."""
    match = _CHARSET.search(content_type.partition(";")[2])
    return match[1].lower() if match else None


def seconds(retry_after: str) -> int | None:
    """Read a Retry-After header (RFC 9110, section 10.2.3): seconds, or a date; None for anything else."""
    if _SECONDS.fullmatch(retry_after):
        return int(retry_after)
    try:
        at = parsedate_to_datetime(retry_after)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    return max(0, round((at - datetime.now(UTC)).total_seconds()))
