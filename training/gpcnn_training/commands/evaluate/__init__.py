"""`gpcnn-evaluate`."""
