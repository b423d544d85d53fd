"""Tables as values, what goes into them, and how they are written."""
