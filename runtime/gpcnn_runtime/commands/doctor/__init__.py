"""`gpcnn-doctor`."""
