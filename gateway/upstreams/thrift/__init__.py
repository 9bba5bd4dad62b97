"""The adapter of Thrift services.

adapter.py     calls out, responses in, faults
idl.py         a .thrift file -> methods and types
lexing.py      text -> tokens
parsing.py     tokens -> nodes, which are in syntax.py
linking.py     nodes -> types, with scopes.py for names and constants.py for defaults
types.py       the types
hints.py       types -> what callers see of them
encoding.py    neutral values -> a protocol, by types; decoding.py the other way
wire.py        what the protocols have in common; binary.py and compact.py are the two
connection.py  one connection
"""
