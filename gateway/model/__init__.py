"""The words of the gateway, without behaviour: calls, faults, values, limits, networks, HTTP messages."""
