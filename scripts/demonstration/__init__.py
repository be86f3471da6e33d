"""What `scripts/demo` shows: the same request with and without add-ons, as a client of the server."""
