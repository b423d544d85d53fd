"""How the values of a tuned arm were found: by which search, and on which cases. Not part of any identity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from pydantic import Field

from xferlab.section import Section
from xferlab.study.paths import replaced

HEADER = "# Written by `xferlab tune`."


class ValidatedOn(Section):
    """The validation part of one repetition."""

    repetition: int
    """From 1."""
    seed: int
    """Of the training."""
    section: str
    """Data section."""
    cases: int
    """Number of images."""
    patients: int
    """Number of patients."""
    sha256: str
    """Digest of the cases' digests."""


class Tuned(Section):
    """How an arm's parameters were found; `xferlab tune` writes it."""

    tuning_id: str
    """The search."""
    study: str
    """Study that was searched in."""
    arm: str
    """Arm that was tuned."""
    stage: str
    """Stage that was tuned."""
    search: str
    """`random` or `optuna`."""
    asha: dict[str, int] | None = None
    """Whether samples were stopped early: first rung and reduction factor."""
    seed: int
    """Of the search."""
    space_sha256: str
    """Digest of the space."""
    num_samples: int = Field(ge=1)
    """Samples that were compared."""
    num_stopped: int = Field(0, ge=0)
    """Of these, stopped early."""
    sample: int = Field(ge=1)
    """Number of the sample that won."""
    score: float
    """Its score: the mean of its repetitions' best."""
    validated_on: list[ValidatedOn] = Field(min_length=1)
    """What the samples were compared on."""
    held_out: dict[str, str] = Field(default_factory=dict)
    """Data section -> digest of its held-out images, on which nothing was trained, stopped or compared."""


def with_parameters(overrides: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what an arm changes that is another arm with other values of some parameters.

    No path of the result leads into the value of another, so their order does not matter.

    Args:
        overrides: What the other arm changes, in the order in which it applies: dotted path -> value.
        parameters: Dotted path -> value.
    """
    joined: dict[str, Any] = {}
    for path, value in (*overrides.items(), *parameters.items()):
        whole = next((other for other in joined if path.startswith(f"{other}.")), None)
        if whole is not None:
            joined[whole] = replaced(joined[whole], path.removeprefix(f"{whole}.").split("."), value)
            continue
        joined = {other: kept for other, kept in joined.items() if not f"{other}.".startswith(f"{path}.")}
        joined[path] = value
    return joined


def arm_file(name: str, overrides: Mapping[str, Any], searches: Sequence[Tuned]) -> str:
    """Returns the text of a file with one arm that a study can include.

    Args:
        name: Of the arm.
        overrides: Dotted path -> value.
        searches: Those that the values come from, the latest last.
    """
    found = [search.model_dump(mode="json", exclude_none=True) for search in searches]
    body = {name: {**overrides, "tuned": found if len(found) > 1 else found[0]}}
    return f"{HEADER} Include it in an arm as THIS_FILE.yaml#{name}.\n" + yaml.safe_dump(
        body, sort_keys=False, width=100, allow_unicode=True
    )


def latest_search(text: str) -> Tuned | None:
    """Returns the search whose winner a text of `arm_file` holds; None where the text was edited by hand."""
    try:
        [arm] = yaml.safe_load(text).values()
        searches = arm["tuned"]
        return Tuned.model_validate(searches[-1] if isinstance(searches, list) else searches)
    except (yaml.YAMLError, AttributeError, LookupError, TypeError, ValueError):
        return None
