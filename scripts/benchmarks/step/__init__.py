"""One denoising step, and what is around it: diffusers, torch.compile and this project side by side."""
