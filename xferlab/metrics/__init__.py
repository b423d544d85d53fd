"""Functions of arrays that say how good an output is.

To add a metric, write a function of a `ScoredImage` in the module that it belongs to, declare it there with
an `ImageMetric`, and add that to `measuring.METRICS`. Nothing else lists metrics.
"""
