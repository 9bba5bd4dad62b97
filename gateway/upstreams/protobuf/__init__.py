"""Protocol buffers: types from files, values both ways; and the adapter of generic services, generic.py."""
