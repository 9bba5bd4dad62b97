"""One object for all callers: how methods share state.

Plain functions run in threads, several at once, so what they share needs a lock. The object lives in this process and
ends with it.
"""

import threading
from typing import Any

from gateway import method

_lock = threading.Lock()
_stored: Any = None


@method(name="sendObj")
def send_object(data: Any) -> bool:
    """Keep an object; the next one takes its place."""
    global _stored  # noqa: PLW0603 - the one object that this module is about
    with _lock:
        _stored = data
    return True


@method(name="getObj")
def get_object() -> Any:
    """Return the object that was sent last; None before there is one."""
    with _lock:
        return _stored
