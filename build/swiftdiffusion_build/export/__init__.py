"""Networks to ONNX files whose parameters have their PyTorch names and whose operators are ours."""
