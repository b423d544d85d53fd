"""Images and masks that a table lists."""
