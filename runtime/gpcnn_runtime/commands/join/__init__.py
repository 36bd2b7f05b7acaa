"""`gpcnn-join`."""
