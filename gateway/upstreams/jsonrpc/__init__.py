"""JSON-RPC 2.0 upstreams, over HTTP and over plain TCP."""
