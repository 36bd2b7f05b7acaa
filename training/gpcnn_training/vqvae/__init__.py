"""VQ-VAE (van den Oord et al. 2017, arXiv 1711.00937): pictures as grids of codes, and a Gated PixelCNN over them."""
