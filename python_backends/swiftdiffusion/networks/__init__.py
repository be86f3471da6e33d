"""Networks: torch modules with only tensors in and out, cut from a diffusers pipeline's folder."""
