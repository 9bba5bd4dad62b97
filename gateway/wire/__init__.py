"""Bytes without meaning: framing and content codings."""
