"""Connections to upstreams: dialling, pools, HTTP."""
