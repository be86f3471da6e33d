import os

import torch

# Read when Triton is first imported; without a GPU its interpreter runs the kernels on the CPU.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
