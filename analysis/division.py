"""How a study divides its patients, or its images, in words for a reader of its tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def division(plan: Mapping[str, Any]) -> str:
    """Returns how patients are divided, as a report says it; empty for a plan that does not say.

    Args:
        plan: The plan document.
    """
    split = plan.get("split")
    if not split:
        return ""
    sentence = _sentence(split, plan["repetitions"])
    return sentence if divided_units(plan) == "patients" else f"{sentence} Patients may be in several parts."


def divided_units(plan: Mapping[str, Any]) -> str:
    """Returns what a split keeps whole: `patients`, or `images`."""
    return "images" if (plan.get("split") or {}).get("group_by", "patient_id") is None else "patients"


def _sentence(split: Mapping[str, Any], repetitions: int) -> str:
    units = divided_units({"split": split})
    every = "Every patient who" if units == "patients" else "Every image that"
    if folds := split.get("folds"):
        repeats, others = split["repeats"], folds - 2
        several = f", {repeats} repeats" if repeats > 1 else ""
        return (
            f"Cross-validation: {folds} folds{several}. In each repetition one fold tests, the next one "
            f"selects (validation) and {'the other trains' if others == 1 else f'the other {others} train'}. "
            f"{every} is not held out tests once{' in each repeat' if repeats > 1 else ''}."
        )
    if file := split.get("file"):
        return f"{units.capitalize()} are divided as a given file says ({file})."
    shares = {name: f"{100 * split[name]:g} %" for name in ("train", "validation", "test")}
    usual = f"{shares['train']} train, {shares['validation']} select (validation), {shares['test']} test"
    if column := split.get("by"):
        return (
            f"Leave one site out: in each of {repetitions} repetitions, the {units} of another value of "
            f"column {column!r} test. Of the others, {shares['validation']} select (validation) and the rest "
            f"train. Sections without this column are divided anew in each repetition: {usual}."
        )
    if (seeds := split.get("seeds_per_split", 1)) > 1:
        return f"Each split, of {seeds} repetitions with other seeds, divides the {units} anew: {usual}."
    return f"Each repetition divides the {units} anew: {usual}."


def division_note(plan: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns what a repetition is, where it is more than one; stands under every table and figure."""
    split = plan.get("split") or {}
    if split.get("folds"):
        return ("Repetitions are the folds of a cross-validation.",)
    if column := split.get("by"):
        return (f"Repetitions are the values of column {column!r}, each left out once.",)
    if (seeds := split.get("seeds_per_split", 1)) > 1:
        return (f"Repetitions are splits with {seeds} seeds each; comparisons are over the means of splits.",)
    return ()


def leaves_sites_out(plan: Mapping[str, Any]) -> bool:
    """Returns whether repetitions are sites: there are no more of them, so nothing is said of others."""
    return bool((plan.get("split") or {}).get("by"))


def coordinates_of(trial: Mapping[str, Any]) -> str:
    """Returns what a repetition of a trial in a plan is, such as `repeat 1, fold 3`; empty for hold-outs."""
    return ", ".join(f"{name} {value}" for name, value in trial.get("coordinates", {}).items())
