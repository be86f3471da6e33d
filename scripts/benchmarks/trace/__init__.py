"""`scripts/benchmark trace`: requests as production sends them, and one request as a timeline."""
