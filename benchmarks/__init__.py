"""Comparisons of the gateway with other servers; README.md beside this file has their figures."""
