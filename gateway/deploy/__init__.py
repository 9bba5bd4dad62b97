"""Configuration for other programs: nginx and uWSGI."""
