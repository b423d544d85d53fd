"""What happened: versioned files on any pyarrow filesystem, written atomically, read back with checks."""
