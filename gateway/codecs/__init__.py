"""Codecs: bytes to calls, replies to bytes; a file or a folder for each protocol, and the one table of them.

Whoever adds a protocol writes its codec (gateway/codecs/contract.py says what it must have) and puts it into CODECS.
Nothing else knows which protocols there are.
"""

from gateway.codecs.contract import Codec, Decoded
from gateway.codecs.jsonrpc import JSONRPC
from gateway.codecs.xmlrpc import XMLRPC
from gateway.codecs.xmlrpc.choice import IMPLEMENTATION

__all__ = ["CODECS", "IMPLEMENTATION", "Codec", "Decoded"]

CODECS: dict[str, type[Codec]] = {codec.name: codec for codec in (XMLRPC, JSONRPC)}
"""The protocols that are spoken, by name."""
