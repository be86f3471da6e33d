"""The denoising loop and what it works with; plain torch, no server."""
