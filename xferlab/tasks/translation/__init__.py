"""Translation of images of one domain into another, learnt from unpaired images."""
