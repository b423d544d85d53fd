"""One training: loop, step kit, augmentation, randomness, examples. Knows no task, stage, file or Ray."""
