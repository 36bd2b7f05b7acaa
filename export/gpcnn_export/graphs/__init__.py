"""ONNX graphs of a model, by role: `sampler`, `step`, `encoder`."""
