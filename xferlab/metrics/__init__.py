"""Functions of arrays that say how good an output is.

To add a metric, write one function of a `ScoredImage` in the module it belongs to and one entry of
`catalogue.CATALOGUE` that names it. Nothing else lists metrics.
"""
