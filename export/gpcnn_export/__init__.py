"""Checkpoint → ONNX graphs → TensorRT plans, each checked against eager PyTorch before it gets its final name."""
