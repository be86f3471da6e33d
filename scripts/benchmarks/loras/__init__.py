"""`scripts/benchmark loras`: what a LoRA costs a request, and what its lateness costs the picture."""
