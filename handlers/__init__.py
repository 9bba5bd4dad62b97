"""The methods that this deployment serves.

``gateway serve`` takes every function marked with ``@method`` from the modules of this package. Copy the folder, put
your own modules into it, and you have a gateway of your own.
"""
