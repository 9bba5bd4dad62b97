"""How the gateway runs: sockets, TLS, workers and their supervisor."""
