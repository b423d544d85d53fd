"""What is learnt: a folder for each task."""
