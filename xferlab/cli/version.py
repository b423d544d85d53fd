"""`xferlab version`: what a report of an error should name."""

from __future__ import annotations

import platform

import torch

from xferlab import __version__
from xferlab.cli.main import COMPLETE
from xferlab.cli.options import JsonOptions
from xferlab.cli.output import tell
from xferlab.plan.spec import PLAN_VERSION
from xferlab.records.schema import RECORD_VERSION
from xferlab.trial.environment import describe


def run(options: JsonOptions) -> int:
    """Prints versions: of xferlab, Python, libraries, CUDA, the machine, and what is stored."""
    device = describe(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    facts = {
        "version": __version__,
        **{name: version for name, version in device["versions"].items() if name != "xferlab"},
        "cuda": torch.version.cuda,
        "device": device["device_name"],
        "platform": platform.platform(),
        "records": RECORD_VERSION,
        "plans": PLAN_VERSION,
    }
    tell(**facts)
    print(f"xferlab {__version__}")
    for name, value in list(facts.items())[1:]:
        print(f"  {name} {value or 'none'}")
    return COMPLETE
