"""Datasets as tensors in memory: download and verification, splits, augmentation, batches and keyed random numbers.
Independent of the network, the training loop and Lightning."""
