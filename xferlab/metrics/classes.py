from __future__ import annotations

from xferlab.metrics.metric import Metric

CLASSES_VERSION = 1


def metrics_of_classes(targets):
    def m(name, **k):
        return Metric(name=name, label=name, better="higher", source="-", definition="x", **k)

    out = [m("LOG_LOSS"), m("BRIER"), m("ACCURACY", computed_by="f1", made_of=("LABEL", "CALLED"))]
    for n in targets:
        for kind in ("CALLED", "CALLED_YOUDEN", "CALLED_SENSITIVE", "P"):
            out.append(m(f"F1_{kind}_{n}", of=n, computed_by="f1", made_of=(f"IS_{n}", f"{kind}_{n}")))
    return tuple(out)
