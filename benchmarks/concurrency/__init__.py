"""Calls that block, many at once: other servers and the gateway side by side (``python -m benchmarks.concurrency``)."""
