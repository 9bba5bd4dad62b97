"""Hosts: sockets on one side, HTTPRequest and HTTPResponse on the other, and nothing else."""
