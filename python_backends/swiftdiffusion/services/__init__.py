"""The models beside the UNet, each a service: its contract, its serving side, and the loop's client to it."""
