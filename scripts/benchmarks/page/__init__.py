"""`scripts/benchmark page`: what was measured, beside what was published."""
