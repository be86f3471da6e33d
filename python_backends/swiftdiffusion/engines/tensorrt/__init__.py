"""The engine that runs a network on TensorRT, or TensorRT-RTX, from a plan that ``scripts/build`` made."""
