"""gRPC services: adapter.py, over connections of line.py; status.py turns failed calls into faults.

grpc writes lines of its own to standard error, between those of the log and in another form, unless it is told not to
when it is loaded. GRPC_VERBOSITY in the environment brings them back.
"""

import os

os.environ.setdefault("GRPC_VERBOSITY", "NONE")
