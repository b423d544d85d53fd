"""Search for hyperparameters: space, samples, and the workers that train them."""
