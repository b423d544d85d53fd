"""Declared contrasts that can get no verdict: a plan says so before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.plan.studies import HERE, STAGES, phantom_cases, text_digest
from tests.plan.studies import STUDY as DRAWN
from xferlab.cohort import Case
from xferlab.plan.expand import expand
from xferlab.study.load import load

KIND = "contrasts that can get no verdict"
FILES = "source: manifest, labels: {lung: [1]}"
DATA = f"""
data:
  mri: {{source: phantom_mri, count: 20}}
  fixed: {{{FILES}, root: fixed}}
  portable: {{{FILES}, root: portable, hold_out: 0.5}}
"""
STUDY = f"study: s\nseed: 7\nrepetitions: 5\n{DATA}{STAGES}"
OWN_DONORS = STUDY.replace("{data: mri}", "{data: mri, repetitions: 5}")
GIVEN = STUDY.replace("{data: mri}", "{weights: buda2019}")
CLAIMS = "primary: {metric: DICE, stage: portable, on: portable.hold_out}\n"
SCRATCH = "arms: {baseline: {}, scratch: {stages.general.starts_from: null}}\n"
SLOW = "arms: {baseline: {}, slow: {stages.portable.training: {lr: 0.1}}}\n"
DONORS = (
    "they descend from different donors (given weights or a single training, stage donor), and nothing shows "
    "how much others would change"
)


def cases(name: str, config: Any) -> Sequence[Case]:
    """Two images a patient."""
    if config.source != "manifest":
        return phantom_cases(name, config)
    return [
        Case(text_digest(f"{name} {number}"), f"{number}.png", f"{name} {number // 2}", "normal",
             columns={"site": "abc"[number // 2 % 3]})
        for number in range(40)
    ]  # fmt: skip


def told(folder: Path, text: str) -> list[tuple[str, str]]:
    (folder / "study.yaml").write_text(text)
    plan = expand(load(folder / "study.yaml", environ={}), cases, HERE)
    return [(warning.where, warning.what) for warning in plan.warnings if warning.kind == KIND]


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        (
            STUDY + CLAIMS + SCRATCH,
            "contrasts",
            f"no verdict is possible of scratch − baseline: {DONORS}; give `stages.donor.repetitions: 5` and "
            "`chaining: paired`",
        ),
        (
            GIVEN + CLAIMS + SCRATCH,
            "contrasts",
            f"no verdict is possible of scratch − baseline: {DONORS}; compare arms that start from the same "
            "weights",
        ),
        (
            STUDY.replace("repetitions: 5", "repetitions: 3") + CLAIMS + SLOW,
            "contrasts",
            "no verdict is possible of slow − baseline: slow has too few repetitions (3, and at least 5 are "
            "needed); plan more",
        ),
        (
            STUDY.replace("repetitions: 5", "repetitions: 6")
            + "split: {seeds_per_split: 2}\n"
            + CLAIMS
            + SLOW,
            "contrasts",
            "no verdict is possible of slow − baseline: slow has too few splits (3, and at least 5 are "
            "needed); plan more",
        ),
        (
            STUDY.replace(f"{FILES}, root: portable", "source: phantom_cxr, count: 40") + CLAIMS + SLOW,
            "primary.on",
            "no verdict is possible: all images of portable.hold_out are simulated or drawn; name real ones",
        ),
    ],
)
def test_contrasts_that_can_get_no_verdict(tmp_path: Path, text: str, where: str, what: str) -> None:
    assert told(tmp_path, text) == [(where, what)]


def test_sites_left_out_allow_no_verdict(tmp_path: Path) -> None:
    study = STUDY.replace("repetitions: 5\n", "") + "split: {by: site}\n" + CLAIMS + SLOW
    ((where, what),) = told(tmp_path, study)
    assert where == "split.by"
    assert "each repetition leaves another site out" in what


def test_images_that_are_divided_allow_no_verdict(tmp_path: Path) -> None:
    study = STUDY + "split: {group_by: null}\n" + CLAIMS + SLOW
    ((where, what),) = told(tmp_path, study)
    assert where == "split.group_by"
    assert "networks train on other images of the patients of portable.hold_out" in what


def test_one_division_for_all_repetitions_allows_no_verdict(tmp_path: Path) -> None:
    study = STUDY.replace("mri: {source: phantom_mri, count: 20}", f"mri: {{{FILES}, root: mri}}")
    parts = ("train", "train", "train", "validation", "test")
    lines = [
        f"{name} {each},{parts[each % 5]}\n" for name in ("mri", "fixed", "portable") for each in range(20)
    ]
    (tmp_path / "splits.csv").write_text("patient_id,part\n" + "".join(lines))
    ((_, what),) = told(tmp_path, study + "split: {file: splits.csv}\n" + CLAIMS + SLOW)
    assert "slow − baseline: all repetitions of slow train on the same patients" in what


@pytest.mark.parametrize(
    "text",
    [
        STUDY + CLAIMS + SLOW,  # one donor for both
        STUDY + CLAIMS + "contrasts: [[baseline.portable, baseline.general]]\n",
        GIVEN + CLAIMS + SLOW,
        OWN_DONORS + CLAIMS + SCRATCH,
        STUDY + SCRATCH,  # nothing is declared
        DRAWN + CLAIMS + SCRATCH,  # a rehearsal on drawn images
    ],
)
def test_others_may_get_one(tmp_path: Path, text: str) -> None:
    assert told(tmp_path, text) == []
