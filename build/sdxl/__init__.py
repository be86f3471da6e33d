"""SDXL base 1.0's real configuration with random weights: for measuring speed and memory without a download."""
