"""`gpcnn-inspect`."""
