"""``make bench``: calls per second of the gateway and of other servers, side by side."""
