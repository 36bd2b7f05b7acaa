"""The native engine: model files, drawn by the kernel in `runtime/native`; needs no package but numpy."""
