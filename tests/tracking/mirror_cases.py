"""Trials, records and pixels for the tests of the mirror."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.identities import identity, trial_spec
from tests.records import stored
from xferlab.plan.identity import short_id
from xferlab.plan.spec import PLAN_VERSION, EvaluationSpec, Input, Settings, TrialSpec
from xferlab.records import codec, layout
from xferlab.records.schema import CaseOutputs, EpochResult
from xferlab.records.store import Store
from xferlab.tracking.live import TrialMirror

PATIENT = "patient-0815-secret"
NAME = "name-of-a-case-4711"
PATTERN = bytes(range(7, 250, 3))
"""Pixels that no other file holds by chance."""
SIZE = 16
LAST = 8


def wandb_settings(mode: str = "offline", **changes: Any) -> dict[str, Any]:
    return {"project": "mirror-test", "entity": None, "mode": mode, "images": 4, **changes}


def spec(*, seed: int = 2**62 + 1, shareable: bool = False, mode: str | None = "offline") -> TrialSpec:
    what = identity(seed, lr=1e-3, batch_size=16)
    trial_id = short_id(what.to_json())
    evaluation = EvaluationSpec(short_id([trial_id, "test"]), "lungs", "test", "0" * 64, overlay_cases=4)
    return trial_spec(
        trial_id,
        name=f"baseline/general/r{seed % 100:02d}",
        identity=what,
        section="lungs",
        inputs=(Input("starts_from", ("fedcba9876543210",)),),
        evaluations=(evaluation,),
        data={"lungs": {"source": "manifest", "root": f"/data/{PATIENT}", "shareable": shareable}},
        settings=Settings("covid", tracking=wandb_settings(mode) if mode else None),
    )


def epochs(first: int, last: int) -> list[EpochResult]:
    return [
        EpochResult(
            n,
            {"train_loss": 1 / n, "validation_loss": 1.5 / n, "lr": 1e-3},
            1.5 / n,
            n % 2 == 0,
            0.25,
            0.125,
        )
        for n in range(first, last + 1)
    ]


WHO = {"name": NAME, "patient": PATIENT, "pathology": "covid19", "simulated": ""}


def arrays(count: int = 6) -> list[dict[str, NDArray[np.uint8]]]:
    """The arrays of cases whose image is a pattern that no other file has."""
    pixels = np.frombuffer(PATTERN * SIZE * SIZE, np.uint8)
    images = [pixels[first : first + SIZE * SIZE].reshape(SIZE, SIZE) for first in range(count)]
    target, probability = (np.full((SIZE, SIZE), value, np.uint8) for value in (255, 200))
    return [{"image": image, "target": target, "probability": probability} for image in images]


def store_trial(store: Store, trial: TrialSpec, *, num_epochs: int = 5) -> None:
    """Writes all that a complete trial leaves behind."""
    outputs = [
        CaseOutputs(case=f"{number}" * 64, **WHO, arrays=pixels) for number, pixels in enumerate(arrays())
    ]
    stored.store_trial(store, trial, epochs(1, num_epochs), labels=WHO, outputs=outputs)


def store_plan(
    store: Store, trials: Sequence[TrialSpec], *, shareable: bool | None = None, **changes: Any
) -> None:
    """Writes a plan of these trials; the arm `frozen` shares them, which they did not know when they ran."""
    entries = []
    for one in trials:
        names, arms = [one.name, one.name.replace("baseline", "frozen")], ["baseline", "frozen"]
        value = replace(one, arms=()).to_json()
        kept = {key: value[key] for key in ("trial_id", "stage", "repetition", "inputs", "evaluations")}
        entries.append({**kept, "names": names, "arms": arms, "data": one.section})
    shareable = trials[0].data["lungs"]["shareable"] if shareable is None else shareable
    body = {
        "version": PLAN_VERSION,
        "study": "covid",
        "seed": 1,
        "profile": "cpu",
        "repetitions": len(trials),
        "tracking": wandb_settings(),
        "data": {"lungs": {"shareable": shareable}},
        "stages": ["general"],
        "tasks": {"general": "segmentation"},
        "arms": {arm: {"shareable": {"lungs": shareable}} for arm in ("baseline", "frozen")},
        "trials": entries,
    }
    body |= changes
    codec.write_json(store, layout.StudyFiles(body["study"]).plan, body)


def mirrored(
    trial: TrialSpec,
    directory: Path,
    results: Sequence[EpochResult],
    *,
    outcome: str = "complete",
    summary: Mapping[str, float] | None = None,
    images: int = 0,
    store: Store | None = None,
) -> None:
    """Mirrors a trial as its own process does."""
    mirror = TrialMirror.start(trial, directory=directory, store=store)
    for result in results:
        mirror.epoch(result)
    mirror.outputs(arrays(images))
    mirror.finish(summary=summary or {}, outcome=outcome, timeout_s=60.0)


def tear(directory: Path, trial_id: str, *, keep: float) -> None:
    """Cuts the offline file of a trial, as a killed machine does."""
    (path,) = directory.glob(f"wandb/offline-run-*/run-{trial_id}.wandb")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
