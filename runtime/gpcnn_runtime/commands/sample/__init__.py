"""`gpcnn-sample`."""
