"""The training loop and all that it needs to stop and go on."""
