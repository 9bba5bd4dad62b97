"""XML-RPC upstreams."""
