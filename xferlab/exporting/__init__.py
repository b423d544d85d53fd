"""Models out: trained networks in formats that other programs read, checked against the network."""
