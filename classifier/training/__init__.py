"""Training of heads: loop, losses, optimisers, augmentation, runs."""
