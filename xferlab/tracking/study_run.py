"""The run of a whole study: tables, curves with their deviations, and figures, all of them plain values."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from xferlab.plan.identity import sha256_of, short_id
from xferlab.plan.sharing import sections_of
from xferlab.plan.spec import TrialSpec
from xferlab.tracking.content import STUDIES, RunOrder, content_sha256, run_tags, use_tag, withheld_sentence
from xferlab.tracking.overlays import COLUMNS, Overlay
from xferlab.tracking.summary import Headline

OVERLAYS = "overlays"
"""The name of the table of cases to look at."""
Rows = Sequence[Mapping[str, Any]]
"""Lines of a table, all with the same keys."""


@dataclass(frozen=True)
class StudyContent:
    """What the command line knows of a study's results and hands to the mirror.

    Attributes:
        headline: Returns what the run of a trial says of the metrics of its task; default: their means alone.
        summary: Final values of the study's run.
        tables: Lines by the table's name.
        epochs: Numbers of each epoch by name, `epoch` among them.
        figures: Title and PNG of figures without patients, by name.
        overlays: Cases to look at, of shareable sections.
        alert: Title and text of a message that W&B sends to who subscribed to it; None for none.
    """

    headline: Callable[[TrialSpec], Headline] = lambda spec: Headline()
    summary: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, Rows] = field(default_factory=dict)
    epochs: Rows = ()
    figures: Mapping[str, tuple[str, bytes]] = field(default_factory=dict)
    overlays: Sequence[Overlay] = ()
    alert: tuple[str, str] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing that a run could hold."""
        return not (self.tables or self.epochs or self.figures)

    def digests(self) -> dict[str, str]:
        """Returns the digest of each table and each figure, and of all overlays."""
        tables = {
            name: sha256_of([[repr(value) for value in row.values()] for row in rows])
            for name, rows in self.tables.items()
        }
        figures = {name: hashlib.sha256(png).hexdigest() for name, (_, png) in self.figures.items()}
        shown = [overlay.digest for overlay in self.overlays]
        return tables | figures | ({OVERLAYS: sha256_of(shown)} if shown else {})

    def messages(self) -> Iterator[dict[str, Any]]:
        """Yields what is sent after the epochs: a message to people first, since pictures take long."""
        if self.alert is not None:
            yield {"kind": "alert", "title": self.alert[0], "text": self.alert[1]}
        for name, rows in self.tables.items():
            if rows:
                values = [list(row.values()) for row in rows]
                yield {"kind": "table", "name": name, "columns": list(rows[0]), "rows": values}
        for name, (title, png) in self.figures.items():
            yield {"kind": "figure", "name": name, "title": title, "png": b64encode(png).decode()}
        if self.overlays:
            rows = [overlay.message() for overlay in self.overlays]
            yield {"kind": "pictures", "name": OVERLAYS, "columns": COLUMNS, "rows": rows}


def study_run_id(plan: Mapping[str, Any]) -> str:
    """Returns the id of the study's run, one for each plan."""
    return short_id({"study": plan["study"], "plan": sha256_of(dict(plan))})


def study_order(plan: Mapping[str, Any], content: StudyContent | None = None) -> RunOrder:
    """Returns what identifies the run of a study, from its plan document; without content, a run to go on."""
    private = [name for name, shared in sections_of(plan).items() if not shared]
    config = {key: plan[key] for key in ("study", "seed", "profile", "repetitions", "stages")}
    config |= {"tasks": sorted(set(plan["tasks"].values())), "arms": list(plan["arms"])}
    config |= {"plan_sha256": sha256_of(dict(plan)), "trials": len(plan["trials"]), "withheld": private}
    labels = {"study": plan["study"], "profile": plan["profile"]}
    tasks = [f"task:{name}" for name in config["tasks"]]
    return RunOrder(
        run_id=study_run_id(plan),
        name=plan["study"],
        group=STUDIES,
        job_type="study",
        config=config,
        tags=[use_tag(plan["study"], plan["profile"]), *run_tags(labels, ()), *tasks],
        notes=withheld_sentence(private) if private else "",
        content=content_sha256(epochs=content.epochs, summary=study_summary(content)) if content else "",
        epochs=content.epochs if content else (),
    )


def study_summary(content: StudyContent) -> dict[str, Any]:
    """Returns the final values of a study's run, with the digests of what it holds besides."""
    return {**content.summary, **{f"sha256/{name}": digest for name, digest in content.digests().items()}}
