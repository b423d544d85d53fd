"""Expansion of a study into trials: everything is decided here, before an accelerator starts."""

from __future__ import annotations

from collections.abc import Mapping

from xferlab.cohort import single_sections
from xferlab.cohort.rules import Given, Sites
from xferlab.errors import StudyError, suggest
from xferlab.plan import claims, fractions, subgroups
from xferlab.plan.arm import ArmExpansion
from xferlab.plan.growing import Growing
from xferlab.plan.plan import Plan, Setting, train_patients
from xferlab.plan.selection import Index
from xferlab.plan.spec import TrialSpec
from xferlab.plan.unjudged import unjudged
from xferlab.study.load import LoadedStudy
from xferlab.tasks.task import Finding


def expand(loaded: LoadedStudy, index: Index, setting: Setting) -> Plan:
    """Returns the plan of a study.

    Args:
        loaded: The study with its arms.
        index: Section name and configuration -> its cases; called once for each distinct configuration.
        setting: Machine and code.

    Raises:
        StudyError: A part that is trained or evaluated on is empty, or lacks a required class.
    """
    growing = Growing(loaded, index, setting)
    arms: dict[str, ArmExpansion] = {}
    for name, study in growing.loaded.arms.items():
        arms[name] = ArmExpansion(growing, name, study, arms)
    for arm in arms.values():
        arm.expand()
    _check_required(growing)
    for finding in subgroups.unfit(growing.loaded.base, growing.selector.cohort.sections):
        growing.refuse(f"subgroups {finding.path}", "", finding)
    for finding in claims.unfit(growing.loaded, growing.trials.values()):
        growing.refuse(f"{finding.path} {finding.what}", "", finding)
    _report_rule(growing)
    if growing.problems:
        raise StudyError(tuple(growing.problems.values()))
    straddled = _report_straddling(growing)
    _report_held_out(growing)
    _report_fractions(growing)
    for where, what in unjudged(growing.loaded, growing.trials, straddled):
        growing.warn(what, where, what, kind="contrasts that can get no verdict")
    _report_tuned(growing)
    return Plan(
        loaded=growing.loaded,
        setting=setting,
        trials=tuple(_parents_first(growing.trials).values()),
        names=growing.names,
        selections=growing.selector.selections,
        selector=growing.selector,
        classes=growing.selector.classes,
        warnings=(
            *growing.loaded.warnings,
            *(counts.warning() for counts in growing.selector.classes if counts.others),
            *growing.warnings,
        ),
    )


def _parents_first(trials: Mapping[str, TrialSpec]) -> dict[str, TrialSpec]:
    """Returns the trials in their order, but those that others take anything from before these.

    What an arm adds to a trial that another arm has may need trials that came later.
    """
    ordered: dict[str, TrialSpec] = {}

    def add(trial: TrialSpec) -> None:
        for parent in trial.parents if trial.trial_id not in ordered else ():
            add(trials[parent])
        ordered.setdefault(trial.trial_id, trial)

    for trial in trials.values():
        add(trial)
    return ordered


def _check_required(growing: Growing) -> None:
    sections = growing.selector.cohort.sections
    known = sorted({case.pathology for cases in sections.values() for case in cases})
    for pathology in sorted(set(growing.loaded.base.split.require_classes).difference(known)):
        what = (
            f"split.require_classes asks for {pathology!r}, which no case has (pathologies: "
            f"{', '.join(known)}).{suggest(pathology, known)}"
        )
        growing.refuse(f"require {pathology}", "", Finding(("split", "require_classes"), what))


def _report_straddling(growing: Growing) -> list[str]:
    """Warns of patients who are in several parts; returns the data sections that have any."""
    if growing.selector.cohort.by_patient:
        return []
    straddled = {name: counts for name, counts in growing.selector.straddling().items() if counts[0]}
    for name, (straddling, number) in straddled.items():
        growing.warn(
            f"straddle {name}",
            f"data.{name}",
            f"split.group_by is null: in repetition 1, {straddling} of {number} patients "
            "have images in more than one part; test results are optimistic",
            kind="sections whose patients straddle parts",
        )
    return list(straddled)


def _report_held_out(growing: Growing) -> None:
    cohort = growing.selector.cohort
    held_out = cohort.held_out_by()
    for name, cases in cohort.sections.items():
        units = {cohort.unit(case) for case in cases}
        others = {other: units & chosen for other, chosen in held_out.items() if other != name}
        withdrawn = frozenset[str]().union(*others.values()) - held_out.get(name, frozenset())
        if withdrawn:
            by = " and ".join(other for other, chosen in others.items() if chosen & withdrawn)
            number = f"{len(withdrawn)} of {len(units)} {'patients' if cohort.by_patient else 'images'}"
            what = f"{number} train no stage, since {by} holds them out"
            kind = "patients whom another section holds out"
            growing.warn(f"held out {name}", f"data.{name}", what, kind=kind)


def _report_fractions(growing: Growing) -> None:
    arms, trials = growing.loaded.arms, growing.trials.values()
    if not any(stage.share for study in arms.values() for stage in study.stages.values()):
        return
    who = train_patients(growing.selector, trials)
    for stage, what in fractions.nearly_equal(arms, trials, who):
        kind = "shares of labels that are nearly equal"
        growing.warn(what, f"stages.{stage}.label_fraction", what, kind=kind)


def _report_tuned(growing: Growing) -> None:
    """Warns of hold-outs that a search is not known to have held out, of which its arm may claim nothing."""
    for arm, searches in growing.loaded.tuned.items():
        measured = {
            section
            for trial in growing.trials.values()
            for evaluation in trial.evaluations
            if evaluation.part == "hold_out" and arm in (evaluation.arms or trial.arms)
            for section in single_sections(evaluation.section)
        }
        for search in searches:
            if others := sorted(measured.difference(growing.selector.same_hold_outs(search))):
                where = " and ".join(f"{name}.hold_out" for name in others)
                what = (
                    f"the search of arm {arm!r} (study {search.study!r}, stage {search.stage!r}) is not "
                    f"known to have held out the patients of {where}; the arm is compared with no other "
                    "there. Tune it again with the data sections, `hold_out` and `seed` of this study"
                )
                kind = "arms whose search had other hold-outs"
                growing.warn(f"tuned {arm} {search.tuning_id}", f"arms.{arm}", what, kind=kind)


def _report_rule(growing: Growing) -> None:
    rule, split = growing.selector.cohort.rule, growing.loaded.base.split
    if isinstance(rule, Sites) and rule.num_of_several:
        growing.warn(
            "several sites",
            "split.by",
            f"patients with images of several values of {split.by!r}: {rule.num_of_several}; each tests, "
            "with all images, wherever one of these is left out, and does not train there",
            kind="patients of several sites",
        )
    if isinstance(rule, Given) and rule.unused:
        growing.warn(
            "held out",
            "split.file",
            f"{rule.unused} of those in the file are held out (`hold_out` of their data section); their "
            "parts are not used",
            kind="held out in spite of a part",
        )
