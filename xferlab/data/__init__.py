"""Images in: sources, decoding, the cache, splits, tiles, phantoms and the device simulation."""
