"""`gpcnn-verify`."""
