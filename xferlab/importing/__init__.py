"""Folders of images and masks as others lay them out, as tables that a `manifest` section reads."""
