"""`gpcnn-train`."""
