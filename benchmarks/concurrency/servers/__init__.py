"""The servers that are compared with the gateway, each as people write it: ``sleep(seconds)`` over XML-RPC."""
