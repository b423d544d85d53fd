"""Parts that a package adds to xferlab."""
