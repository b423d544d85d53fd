"""What of a trial goes into its W&B run: pure functions of spec, plan and records."""

from __future__ import annotations

import hashlib
import json
import time
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xferlab.cohort import single_sections
from xferlab.plan.identity import ID_LENGTH, short_id
from xferlab.plan.spec import TrialSpec

LONGEST_NAME = 128
"""Characters of a run's name, and of a group's, that W&B takes; the config has all names in full."""
STUDIES = "studies"
"""The group of the runs of studies; those of trials have the name of an arm."""
LONGEST_TAG = 64
"""Characters of a tag that W&B takes."""
SUPERSEDED = "superseded"
"""The tag of a run that was sent again under another id."""
_USE = "use:"


@dataclass(frozen=True)
class RunOrder:
    """What identifies a run to the process that writes it; all of it is sent as JSON.

    Attributes:
        run_id: Its id in W&B.
        name: Its name there.
        group: What it is shown with.
        job_type: The stage of a trial; `study`.
        config: Its configuration.
        tags: What the page filters runs by, each `what:name`; those that a run has already stay.
        notes: What its page says above all else; empty for nothing.
        content: Digest of all that belongs to it, if it is rebuilt from records; empty for a running trial.
        epochs: All epochs that it is to hold then.
    """

    run_id: str
    name: str
    group: str
    job_type: str
    config: Mapping[str, Any]
    tags: Sequence[str] = ()
    notes: str = ""
    content: str = ""
    epochs: Sequence[Mapping[str, Any]] = ()

    @staticmethod
    def of_trial(spec: TrialSpec, config: Mapping[str, Any]) -> RunOrder:
        """Returns the order for the run of a trial.

        Its group is `arm/stage` of the first arm that uses it, so that W&B's means over a group never mix
        arms; the tags name all arms.

        Args:
            spec: The trial.
            config: What `run_config` returns.
        """
        settings = spec.settings
        labels = {"study": settings.study, "profile": settings.profile, "task": spec.identity.task}
        return RunOrder(
            run_id=spec.trial_id,
            name=spec.name[-LONGEST_NAME:],
            group=config["group"],
            job_type=spec.stage,
            config=config,
            tags=[use_tag(settings.study, settings.profile), *run_tags(labels, config["arms"])],
            notes=withheld_notes(spec.data, config["withheld"]),
        )

    def message(self, tracking: Mapping[str, Any], directory: Path) -> dict[str, Any]:
        """Returns the message that begins the run."""
        return {
            **tracking,
            "directory": str(directory.resolve()),
            "started": time.time(),
            **asdict(self),
        }


def content_sha256(
    *,
    epochs: Iterable[Mapping[str, Any]] = (),
    summary: Mapping[str, Any],
    stage: str = "",
    arms: Sequence[str] = (),
    shown: Iterable[str] = (),
    images: int = 0,
) -> str:
    """Returns the digest of all that belongs to a whole run: equal for equal values, NaN among them.

    Args:
        epochs: Numbers of each epoch by name.
        summary: Final values.
        stage: What its arms call its stage.
        arms: The arms that use the trial.
        shown: The sets whose images may be shown.
        images: How many of these are shown at most; of no account where there is no such set.
    """
    sets = sorted(shown)
    body = [list(epochs), dict(summary), stage, sorted(arms), sets, images if sets else 0]
    return hashlib.sha256(json.dumps(body, sort_keys=True, default=float).encode()).hexdigest()


def content_of(
    spec: TrialSpec, *, epochs: Iterable[Mapping[str, Any]], summary: Mapping[str, Any], images: int
) -> str:
    """Returns the digest of all that belongs to the run of a trial.

    Args:
        spec: The trial, with stage and arms of the study that sends it.
        epochs: Numbers of each epoch by name.
        summary: Final values.
        images: Images that are shown at most.
    """
    return content_sha256(
        epochs=epochs,
        summary=summary,
        stage=spec.stage,
        arms=spec.arms,
        shown=shown_sets(spec, images),
        images=images,
    )


def shown_sets(spec: TrialSpec, images: int) -> list[str]:
    """Returns the sets of a trial whose images may be shown: those of shareable sections."""
    sets = measured_sets(spec).items() if images else ()
    return [name for name, section in sets if is_shareable(spec.data, section)]


def measured_sets(spec: TrialSpec) -> dict[str, str]:
    """Returns the data section of each set that a trial is measured on, by `section.part`.

    Data that an arm has under the section's name are a section of their own: `name@arm`.
    """
    validation = {f"{spec.shown}.validation": spec.read_as}
    return validation | {evaluation.read_name: evaluation.read_as for evaluation in spec.evaluations}


def run_tags(labels: Mapping[str, str | None], arms: Iterable[str]) -> list[str]:
    """Returns the tags of a run, `what:name` each; what has no name has no tag."""
    pairs = [*labels.items(), *(("arm", arm) for arm in arms)]
    return list(dict.fromkeys(f"{what}:{name}"[:LONGEST_TAG] for what, name in pairs if name))


def use_tag(study: str, profile: str | None) -> str:
    """Returns the tag of all runs that a study uses with a profile; others may use some of them, too."""
    tag = f"{_USE}{study}{f'/{profile}' if profile else ''}"
    # No two studies may have the same.
    return tag if len(tag) <= LONGEST_TAG else f"{tag[: LONGEST_TAG - ID_LENGTH - 1]}-{short_id(tag)}"


def uses(tags: Iterable[str]) -> set[str]:
    """Returns those tags of a run that `use_tag` gives."""
    return {tag for tag in tags if tag.startswith(_USE)}


def withheld_notes(data: Mapping[str, Mapping[str, Any]], sets: Iterable[str]) -> str:
    """Returns a sentence that says what a run does not show and why; empty where it withholds nothing.

    Args:
        data: Configuration of the data sections by name.
        sets: What is withheld, each `section.part`.
    """
    names = [section for name in sets for section in single_sections(name.partition(".")[0])]
    private = [name for name in dict.fromkeys(names) if not is_shareable(data, name)]
    return withheld_sentence(private) if private else ""


def withheld_sentence(private: Iterable[str]) -> str:
    """Returns a sentence that says that these sections are not shown, and why."""
    return (
        f"Images and the names of cases of {', '.join(private)} are withheld: the study file does not say "
        "`shareable: true` of their sections. Numbers are not withheld."
    )


def run_config(
    spec: TrialSpec,
    *,
    names: Sequence[str] = (),
    parent_weights: str | None = None,
) -> dict[str, Any]:
    """Returns the run's configuration: what was asked, without a path, a case or a key.

    Args:
        spec: The trial.
        names: All names of the trial; default: its own.
        parent_weights: Digest of the weights that it starts from.
    """
    donor = spec.donors[0] if len(spec.donors) == 1 else None
    return {
        "trial_id": spec.trial_id,
        "study": spec.settings.study,
        "profile": spec.settings.profile,
        "task": spec.identity.task,
        "names": list(names or [spec.name]),
        "arms": list(spec.arms),
        "arm": spec.name.partition("/")[0],
        "stage": spec.stage,
        # Those that only predict out of fold train on fewer images: a mean with the others would be of both.
        "group": f"{spec.name.partition('/')[0]}/{spec.stage}{'/folds' if spec.fold else ''}"[-LONGEST_NAME:],
        "repetition": spec.repetition,
        # Of a fold its numbers; the name of a site stays in the storage.
        **{name: value for name, value in spec.coordinates.items() if isinstance(value, int)},
        **({"out_of_fold": spec.fold} if spec.fold else {}),
        "section": spec.section,
        "evaluated_on": [evaluation.read_name for evaluation in spec.evaluations],
        "withheld": [
            name for name, section in measured_sets(spec).items() if not is_shareable(spec.data, section)
        ],
        "parent_runs": list(spec.parents),
        "parent_weights_sha256": parent_weights or (donor.sha256 if donor else None),
        "donor": donor.name if donor else None,
        **_flat(spec.identity.to_json()),
    }


def _flat(value: Any, prefix: str = "identity") -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {k: v for key, item in value.items() for k, v in _flat(item, f"{prefix}.{key}").items()}
    # Seeds have 63 bits, and the web page counts in doubles.
    exact = isinstance(value, int) and abs(value) > 2**53
    return {prefix: str(value) if exact else value}


def is_shareable(data: Mapping[str, Mapping[str, Any]], section: str) -> bool:
    """Returns whether pixels and names of a section may leave; only a plain `shareable: true` counts.

    Those of a set may where those of all its sections may.
    """
    return all(data.get(name, {}).get("shareable") is True for name in single_sections(section))


def pixel_row(arrays: Mapping[str, NDArray[Any]], *, caption: str = "") -> dict[str, Any]:
    """Returns the uint8 arrays (H, W) of a case for the writer, in base64."""
    shown = {name: array for name, array in arrays.items() if array.ndim == 2 and array.dtype == np.uint8}
    coded = {name: (array.shape, b64encode(array.tobytes()).decode()) for name, array in shown.items()}
    return {"caption": caption, "arrays": coded}
