"""ONNX files to plans, TensorRT's serialised engines."""
