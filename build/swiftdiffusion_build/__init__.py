"""From a checkpoint to a model repository that runs on TensorRT: ONNX files, engines, configuration."""
