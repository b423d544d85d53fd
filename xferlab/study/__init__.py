"""What was asked: the study file, its schema, and the composition of arms and profiles."""
