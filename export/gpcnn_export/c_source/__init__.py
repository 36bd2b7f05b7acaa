"""C source of a model: the native engine's kernel as one file, the weights as data, and a program that draws.

The kernel is the one of `runtime/native`, put together file by file; nothing of it is written here. Needs no torch.
"""
