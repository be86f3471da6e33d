"""`scripts/benchmark hold`: a server for other calls to measure."""
