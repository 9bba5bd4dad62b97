"""ZooKeeper as a directory, in the layout of Dubbo: a node for each instance, whose name says all of it.

jute.py has the bytes, client.py a session, dubbo.py the names of nodes, kind.py the directory, and publishing.py the
other direction: a gateway that puts itself there.
"""
