"""Convert any picture to MNIST's 28×28 format: open it safely, find the ink, separate the digits, scale and center
them. No torch."""
