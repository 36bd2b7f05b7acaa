"""`gpcnn-score`."""
