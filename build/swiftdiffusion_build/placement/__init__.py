"""Which GPU each model of a server runs on: the file that says so, what it must fulfil, and a planner."""
