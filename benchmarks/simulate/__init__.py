"""Balancing without sockets: calls, instances and the clock are only numbers, so each run has the same figures."""
