"""`make soak`: two gateways under everything that callers do, and what becomes of their memory."""
