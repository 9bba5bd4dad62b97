"""What is served at a path: remote procedure calls, health, metrics."""
