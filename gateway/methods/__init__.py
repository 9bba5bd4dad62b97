"""Methods: functions with a name, a way to run and a way to bind arguments; and the registry that holds them.

    @method / Registry.register    a function and its options -> Method; RegistrationError names the place
    Registry.get(name, protocol)   exactly this name, or None: nothing is ever looked up on an object
    Method.bind(params, context)   the caller's arguments -> what the function is called with, or InvalidParams

Everything that can be known of a function is read once, when it is registered: its parameters, its type hints, how it
runs. What is left for each call is to fit the arguments.
"""

from gateway.methods.binding import Begin, Method, Param, Sent
from gateway.methods.options import MethodOptions, RegistrationError, marked_functions, method
from gateway.methods.places import place_of
from gateway.methods.reading import fitting, make_method
from gateway.methods.registry import RESERVED, Registry

__all__ = [
    "RESERVED",
    "Begin",
    "Method",
    "MethodOptions",
    "Param",
    "RegistrationError",
    "Registry",
    "Sent",
    "fitting",
    "make_method",
    "marked_functions",
    "method",
    "place_of",
]
