"""The name under which ONNX files and TensorRT know the operators."""

NAME = "swiftdiffusion"
VERSION = 1
