"""`xferlab prefetch`: fetches all that a run needs from outside, on a machine that reaches the internet."""

from __future__ import annotations

import sys

from xferlab.cli.main import COMPLETE
from xferlab.cli.options import PrefetchOptions
from xferlab.cli.output import tell
from xferlab.cli.prepare import decode_images, with_weights
from xferlab.cli.session import Session
from xferlab.cli.view import progress_bar, say_if_slow
from xferlab.schedule.study import check_writable


def run(options: PrefetchOptions) -> int:
    """Reads the data, stores the weights that are given, and prints what is where."""
    session = Session.open(options)
    with say_if_slow("reading the data of the study"):
        plan = session.plan()
    check_writable(session.store)
    plan, donors = with_weights(session, plan)
    for name, digest in donors.items():
        print(f"weights {name}: in {session.store.shown}, SHA-256 {digest}")
    print(f"data: digests of all files in {session.cache_dir}")
    if options.images:
        with progress_bar("decoding images") as progress:
            decode_images(
                session, plan.selections, plan.trials, plan.by_id,
                progress=lambda what, done, total: progress(done, total),
            )  # fmt: skip
        print(f"images: decoded in {session.cache_dir}")
    tell(study=session.study, weights=donors, cache=str(session.cache_dir), decoded=options.images)
    wandb = session.loaded.base.tracking.wandb
    if wandb is not None and wandb.mode == "online":
        print(
            "warning: `tracking.wandb.mode` is online. On nodes without internet set it to offline, and call "
            f"`xferlab mirror {session.words} --mode online` here, when the study is complete or before.",
            file=sys.stderr,
        )
    return COMPLETE
