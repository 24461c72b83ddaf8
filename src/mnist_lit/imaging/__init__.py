"""Convert any picture to MNIST's 28×28 format: open it safely, find, separate, scale and center digits. No torch."""
