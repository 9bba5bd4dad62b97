"""The adapter of RPyC services.

adapter.py     calls out, results in, faults
connection.py  one connection: requests told apart by their numbers, both ways
plain.py       results, which may be references to objects of the service -> neutral values
shown.py       what an object shows of itself by repr -> a neutral value
lent.py        arguments that the service gets as references to objects of ours: lists and dicts, to be read
brine.py       RPyC's bytes of immutable values

RPyC's own library is not used: its references ask their questions wherever they are touched, also when they are
collected as garbage, and its results may be compressed bombs. Nothing here ever runs, imports or unpickles what a
service says.
"""
