"""The JSON Schemas of the types of XML-RPC, by the names that system.methodSignature has for them."""

from collections.abc import Mapping
from typing import Any

SCHEMAS: Mapping[str, Any] = {
    **{kind: {"type": "integer"} for kind in ("int", "i4", "i8")},
    "double": {"type": "number"},
    "boolean": {"type": "boolean"},
    "string": {"type": "string"},
    "dateTime.iso8601": {"type": "string", "format": "date-time"},
    "base64": {"type": "string", "contentEncoding": "base64"},
    "struct": {"type": "object"},
    "array": {"type": "array"},
    "nil": {"type": "null"},
}
