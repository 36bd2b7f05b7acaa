"""A model for Triton Inference Server: its folder, its configuration, and the program that runs in the server.

`model.py` is copied as it stands and runs in Triton's Python. It imports `gpcnn_runtime`, numpy and Triton's own
module, and nothing else of this project.
"""
