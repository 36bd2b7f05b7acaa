"""Engines on ONNX Runtime: .onnx files of every role."""
