"""`scripts/benchmark controlnets`: ControlNets on another GPU, guidance on two, processes that die."""
