"""The LGG brain MRI set."""
