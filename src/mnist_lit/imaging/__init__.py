"""From any picture to MNIST's 28×28 format: opening files safely, finding ink,
separating digits. No torch."""
