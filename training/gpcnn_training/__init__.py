"""PyTorch side of gpcnn-deploy: the model, data sets, checkpoints, the training loop and the reference samplers."""
