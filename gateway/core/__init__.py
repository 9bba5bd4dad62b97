"""One call: who makes it, how often, for how long, and what becomes of it."""
