"""Declared contrasts of which no verdict is possible, whatever is measured: told before anything runs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence

from xferlab.cohort import single_sections
from xferlab.data.sources.registry import DataSection
from xferlab.metrics.claims import MIN_REPETITIONS, Claims, Place
from xferlab.plan.claims import claims_of
from xferlab.plan.growing import ancestors
from xferlab.plan.spec import TrialSpec
from xferlab.study.evaluated import Evaluated
from xferlab.study.load import LoadedStudy


def unjudged(
    loaded: LoadedStudy, trials: Mapping[str, TrialSpec], straddled: Collection[str] = ()
) -> Iterator[tuple[str, str]]:
    """Yields field and words for declared contrasts that can get no verdict.

    A study of drawn images alone is a rehearsal: nothing is said of it.

    Args:
        loaded: The study.
        trials: All of its trials, by id.
        straddled: Data sections that have patients in several parts.
    """
    base, claims = loaded.base, claims_of(loaded, trials.values())
    if claims is None or not claims.declared or all(map(_is_drawn, base.data.values())):
        return
    names = single_sections(Evaluated.of(claims.on).section)
    if all(_is_drawn(base.data[name]) for name in names):
        yield (
            "primary.on",
            f"no verdict is possible: all images of {claims.on} are simulated or drawn; name real ones",
        )
    elif base.split.by is not None:
        yield (
            "split.by",
            "no verdict is possible: each repetition leaves another site out, which describes these sites "
            "and says nothing of others; choose another split for claims",
        )
    elif not set(names).isdisjoint(straddled):
        yield (
            "split.group_by",
            "no verdict is possible: images are divided, not patients, so that networks train on other "
            f"images of the patients of {claims.on}; divide patients for claims",
        )
    else:
        contrasts = defaultdict[str, list[str]](list)
        for pair in claims.contrasts:
            if reason := _reason(loaded, trials, claims, pair):
                contrasts[reason].append(claims.title(pair))
        for reason, titles in contrasts.items():
            yield "contrasts", f"no verdict is possible of {'; '.join(titles)}: {reason}"


def _is_drawn(config: DataSection) -> bool:
    """Whether all images of a section are drawn, or simulated."""
    return config.source.startswith("phantom") or bool(config.simulate)


def _reason(
    loaded: LoadedStudy, trials: Mapping[str, TrialSpec], claims: Claims, pair: tuple[Place, Place]
) -> str:
    """Returns why a contrast gets no verdict, and what to do; empty where it may get one."""
    sides = {place: _trials(trials, place) for place in pair}
    seeds = loaded.base.split.seeds_per_split
    for place, of_side in sides.items():
        name, number = claims.words(place), len(of_side) // seeds
        if number < MIN_REPETITIONS:
            unit = "repetitions" if seeds == 1 else "splits"
            return (
                f"{name} has too few {unit} ({number}, and at least {MIN_REPETITIONS} are needed); plan more"
            )
        if len({trial.trained_selections for trial in of_side}) == 1:
            return (
                f"all repetitions of {name} train on the same patients, so nothing shows what other training "
                "patients change; divide them anew in each"
            )
    first, second = (_donors(of_side, trials) for of_side in sides.values())
    differ = {key: stage for key, stage in (first | second).items() if (key in first) != (key in second)}
    if not differ:
        return ""
    if differ.keys() <= trials.keys():
        stage, number = sorted(differ.values())[0], min(map(len, sides.values()))
        advice = f"give `stages.{stage}.repetitions: {number}` and `chaining: paired`"
    else:
        advice = "compare arms that start from the same weights"
    return (
        f"they descend from different donors (given weights or a single training, stage "
        f"{', '.join(sorted({*differ.values()}))}), and nothing shows how much others would change; {advice}"
    )


def _trials(trials: Mapping[str, TrialSpec], place: Place) -> list[TrialSpec]:
    """The trials of a side, one for each repetition."""
    return [
        trial
        for trial in trials.values()
        if trial.stage == place.stage and place.arm in trial.arms and not trial.fold
    ]


def _donors(of_side: Sequence[TrialSpec], trials: Mapping[str, TrialSpec]) -> dict[str, str]:
    """The stage of what several repetitions descend from: by the digest of given weights, or a trial's id."""
    donors, times = dict[str, str](), Counter[str]()
    for trial in of_side:
        lineage = [trial, *ancestors(trial.inputs, trials)]
        times.update(each.trial_id for each in lineage)
        donors |= {donor.sha256 or donor.title: donor.stage for each in lineage for donor in each.donors}
    return donors | {each: trials[each].stage for each, number in times.items() if number > 1}
