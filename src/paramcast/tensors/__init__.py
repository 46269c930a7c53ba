"""The arithmetic on lists of tensors, which knows nothing of optimizers."""
