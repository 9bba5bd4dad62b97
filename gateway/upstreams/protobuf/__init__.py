"""Protocol buffers: types from files, values both ways; and the bridge to generic services, generic.py."""
