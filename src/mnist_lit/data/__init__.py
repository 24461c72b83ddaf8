"""Datasets as tensors in memory: download and verification, splits, augmentation, batches and keyed random numbers.
Trains nothing, and does not import Lightning."""
