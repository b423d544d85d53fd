"""Networks, their initial weights, and published weights."""
