"""`gpcnn-export`."""
