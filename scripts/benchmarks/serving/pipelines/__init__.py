"""The alternatives: ways to serve SDXL with add-ons by diffusers alone."""
