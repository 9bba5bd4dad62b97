"""The adapter of ZeroRPC services.

adapter.py     calls out, responses in, faults
connection.py  one connection: calls told apart by their ids, heartbeats, streams
events.py      calls and answers <-> MessagePack
zmtp.py        ZeroMQ's own protocol, as far as it takes to call a ROUTER socket
"""
