"""One training: loop, loss, stopping, augmentation, batches. Knows nothing of stages, Ray or files."""

TRAINING_VERSION = 1
"""Part of every trial's identity; raised when the same spec would give other weights."""
