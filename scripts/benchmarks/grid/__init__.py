"""`scripts/benchmark grid`: the published grid of ControlNets and LoRAs, served by each system in turn."""
