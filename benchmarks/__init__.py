"""Comparisons of the gateway with other servers; what they measured stands in README.md beside this file."""
