"""xferlab: staged transfer-learning studies on a cluster, with statistics that hold."""

__version__ = "0.1.0"
