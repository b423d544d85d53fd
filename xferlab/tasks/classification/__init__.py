"""Which classes whole images are of."""
