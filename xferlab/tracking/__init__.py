"""The mirror in Weights & Biases: one run a trial, one a study, written by a process of their own.

The trial writes short messages into a pipe that never blocks (`live`, `pipe`); the process behind it alone
imports wandb (`writer`, `mirrored_run`). Every failure there ends in one warning of the logger
`xferlab.mirror` and in a note in the storage (`notes`), which the driver reports to the user. The records are
the truth, and `rebuild` writes from them what is missing. `dashboard` says which panels show what the runs
hold, and `publish` sends them as pages. Metrics, settings and digests leave; pixels and names of cases leave
for data sections that are `shareable`. Searches (`xferlab tune`) are not mirrored: their records hold every
sample with its curve.
"""
