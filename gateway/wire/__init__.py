"""Bytes without meaning: framing, content codings, the heads of responses."""
