"""Arithmetic: how type hints check arguments, and how a method answers with a fault of its own.

These functions return at once, so they run inline, on the event loop, which is faster than a thread. A function that
waits for anything must not.
"""

import math

from gateway import Fault, method

Number = int | float


@method(run="inline")
def add(a: Number, b: Number) -> Number:
    """Add two numbers."""
    return a + b


@method(run="inline")
def subtract(a: Number, b: Number) -> Number:
    """Subtract the second number from the first."""
    return a - b


@method(run="inline")
def multiply(a: Number, b: Number) -> Number:
    """Multiply two numbers."""
    return a * b


@method(run="inline")
def divide(a: Number, b: Number) -> float:
    """Divide the first number by the second."""
    if b == 0:
        raise Fault(1, "division by zero")
    try:
        return a / b
    except OverflowError:  # an int has no bounds, a float has
        raise Fault(3, "the quotient is too large for a double") from None


@method(run="inline")
def square(number: Number) -> float:
    """Return the square root, as the Calculate service that this method comes from does under this name."""
    if number < 0:
        raise Fault(2, "a negative number has no real square root")
    try:
        return math.sqrt(number)
    except OverflowError:
        raise Fault(3, "the number is too large for a double") from None
