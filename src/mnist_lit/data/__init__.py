"""Datasets as tensors in memory: download and verification, splits, augmentation, batches and keyed random numbers.
Knows nothing of training.
"""
