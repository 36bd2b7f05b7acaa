"""Runtime of gpcnn-deploy: engines, the sampling loop and the commands. Imports neither torch nor onnx.

The way in is `gpcnn_runtime.sampler.Sampler`.
"""
