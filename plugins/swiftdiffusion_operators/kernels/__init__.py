"""The operators' GPU kernels in OpenAI Triton, one operator a file; imported only where one runs."""
