"""Serving to be measured: this project and diffusers behind the same Triton, with the same requests."""
