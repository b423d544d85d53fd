"""Where images come from: a folder for each kind of source, listed in `registry.py`."""
