"""Functions of arrays that say how good an output is.

To add a metric, write a function of a `ScoredImage` in the module that it belongs to, make it an
`ImageMetric` by a decorator, and add it to `measuring.METRICS`. Nothing else lists metrics.
"""
