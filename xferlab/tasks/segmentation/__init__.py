"""Segmentation of images: at a fixed size, at their own size, and by tiles."""
