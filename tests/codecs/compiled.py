"""The compiled codec, as the tests of it take it: that of the gateway, or one that was built with sanitizers.

``make fuzz`` builds the latter, and names its file in ``SANITIZED_CODEC``.
"""

import os
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

from gateway.codecs.xmlrpc.choice import Compiled, compiled


def _load(path: str) -> Any:
    spec = spec_from_file_location("gateway.codecs.xmlrpc._compiled", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_SANITIZED = os.environ.get("SANITIZED_CODEC")

COMPILED: Compiled | None = _load(_SANITIZED) if _SANITIZED else compiled
"""None where it was not built: then there is nothing to test, and what needs it passes."""
