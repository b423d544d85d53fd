"""What a run ends with: the numbers of the report's tables, and what W&B lacks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import Command
from tests.studies import ONE_TRIAL, TINY, write_study
from xferlab.tasks import registry

pytestmark = pytest.mark.component

QUICK = {
    "training": {**TINY["training"], "max_epochs": 1, "patience": 1},
    "stages": {
        "general": {"data": "general", "evaluate_on": ["general.test"]},
        "portable": {
            "data": "portable", "starts_from": "general",
            "evaluate_on": ["portable.test", "portable.hold_out", "portable.hold_out@implant"],
        },
    },
}  # fmt: skip
ARMS = {"baseline": {}, "wild": {"stages.portable.training": {"lr": 1e30}}}


def numbers(out: str) -> list[str]:
    lines = out.splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("DICE on "))
    return [line for line in lines[begin:-1] if not line.startswith("trainings that ended by max_epochs")]


def test_a_run_ends_with_the_numbers_of_its_report(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xferlab.analysis import aggregate, load

    study = write_study(tmp_path, **QUICK, arms=ARMS)
    said = command("run", study, "--executor", "in-process", code=1)
    frame = aggregate(load(tmp_path / "xferlab-results", "tiny"))
    row = frame.query(
        "arm == 'baseline' and stage == 'portable' and part == 'hold_out' and metric == 'DICE' "
        "and pathology == 'all'"
    ).iloc[0]
    assert numbers(said.out) == [
        "DICE on portable.hold_out after stage portable, mean over repetitions:",
        f"  baseline  {row['mean']:.3f} (SD {row['sd_repetitions']:.3f}), 2 of 2 repetitions",
        "  wild      none of 2 repetitions",
    ]
    chosen = command("run", study, "--executor", "in-process", "--arms", "baseline", code=0)
    assert numbers(chosen.out) == numbers(said.out)[:2]
    both = command("run", study, "--executor", "in-process", "--arms", " wild, baseline", code=1)
    assert numbers(both.out) == numbers(said.out)
    in_px = replace(registry.task(registry.DEFAULT), headline="HD95_px")
    monkeypatch.setattr(registry, "task", lambda name: in_px)
    again = command("run", study, "--executor", "in-process", "--arms", "baseline")
    assert "HD95_px (px) on portable.hold_out after stage portable, mean over repetitions:" in again.out


def test_a_study_that_measures_nothing_ends_without_numbers(command: Command, tmp_path: Path) -> None:
    stages = {"general": {"data": "general", "repetitions": 1, "evaluate_on": []}}
    study = write_study(tmp_path, **{**QUICK, "stages": stages}, arms={"baseline": {}})
    said = command("run", study, "--executor", "in-process")
    assert (said.code, "DICE" in said.out) == (0, False)


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_a_plan_says_what_its_precision_means(command: Command, tmp_path: Path, precision: str) -> None:
    study = write_study(tmp_path, training={**TINY["training"], "precision": precision})
    said = command("plan", study)
    assert f"on cpu in {precision}\n" in said.out
    explained = "bfloat16: the network trains with numbers of 8 significant bits" in said.out
    assert explained == (precision == "bfloat16")


def test_arms_of_a_higher_priority_run_first_under_the_same_ids(command: Command, tmp_path: Path) -> None:
    arms = {"baseline": {}, "still": {**TINY["arms"]["still"], "priority": 1}}
    plain = command("plan", write_study(tmp_path, **QUICK), code=0).out
    study = write_study(tmp_path, **QUICK, arms=arms)
    assert command("plan", study, code=0).out == plain
    said = command("run", study, "--executor", "in-process", code=0)
    begun = [line.split()[1] for line in said.out.splitlines() if " running" in line]
    portable = [f"{arm}/portable/r{number:02d}" for arm in ("still", "baseline") for number in (1, 2)]
    assert begun == ["baseline/general/r01", *portable]


def test_a_run_whose_mirror_cannot_be_written_is_complete_and_says_so_once(
    command: Command, tmp_path: Path
) -> None:
    study = write_study(tmp_path, **ONE_TRIAL, tracking={"wandb": {"project": "mine"}})
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "wandb").write_text("a file where a folder should be")
    said = command("run", study, "--executor", "in-process", "--storage", "results", code=0)
    (line,) = (line for line in said.err.splitlines() if line.startswith("warning: W&B lacks"))
    assert "something of 1 trials" in line
    assert line.endswith(f"`xferlab mirror {study} --storage results` completes it")


@pytest.mark.slow
def test_a_run_ends_after_its_hours_and_the_same_command_continues(command: Command, tmp_path: Path) -> None:
    study = write_study(
        tmp_path, **ONE_TRIAL, training={**TINY["training"], "max_epochs": 60, "patience": 60}
    )
    words = ("run", study, "--storage", tmp_path / "st", "--executor", "in-process")
    assert "above 0" in command(*words, "--max-hours", "0", code=2).err
    assert "interrupted" in str(command(*words, "--max-hours", str(1 / 3600), code=75))
    assert "all 1 trials complete" in command(*words, "--max-hours", "24", code=0).out


@pytest.mark.parametrize("metric", ["HD95_px", "DICE"])
def test_a_run_ends_with_the_declared_metric_where_it_is_declared(
    command: Command, tmp_path: Path, metric: str
) -> None:
    from xferlab.analysis import aggregate, load

    primary = {"metric": metric, "stage": "general", "on": "general.test"}
    arms = {"baseline": {}, "still": {"stages.general.training": {"rotation": None}}}
    study = write_study(tmp_path, **QUICK, arms=arms, primary=primary)
    said = command("run", study, "--executor", "in-process")
    row = aggregate(load(tmp_path / "xferlab-results", "tiny")).query(
        "arm == 'baseline' and stage == 'general' and part == 'test' and pathology == 'all' "
        "and metric == @metric"
    )
    unit = " (px)" if metric == "HD95_px" else ""
    lines = said.out.splitlines()
    begin = lines.index(f"{metric}{unit} on general.test after stage general, mean over repetitions:")
    assert lines[begin + 1] == f"  baseline  {row.iloc[0]['mean']:.3f}, 1 of 1 repetitions"
