"""What will run: identities, seeds, and the expansion of a study into a graph of trials."""
