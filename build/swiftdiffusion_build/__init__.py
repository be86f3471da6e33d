"""From a checkpoint to a model repository that serves it: ONNX files, plans, placement, configuration."""
