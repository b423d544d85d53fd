"""One exposure under two names: matching of images, and the audit of a study's sections."""
