"""`gpcnn-bench`."""
