"""Protocol buffers: types from files, and values both ways."""
