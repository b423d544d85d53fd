"""Which figures a report holds and in which order: all arms side by side, single arms only in part."""

from __future__ import annotations

from collections.abc import Iterator

from xferlab.analysis.contents import Contents
from xferlab.analysis.figures.arms import arms_picture
from xferlab.analysis.figures.before_after import BeforeAfter, before_after_picture
from xferlab.analysis.figures.features import features_map, features_picture
from xferlab.analysis.figures.losses import loss_picture, losses_picture
from xferlab.analysis.figures.objects import object_arms_picture, object_costs_picture
from xferlab.analysis.figures.overlays import OverlayRequest, artefact_picture, overlay_picture
from xferlab.analysis.figures.style import Picture
from xferlab.analysis.results import is_hold_out
from xferlab.analysis.selection import ALL, ChainPair, detailed_arms, ordered_pathologies
from xferlab.analysis.tables.arms import ArmsRequest

_PAPER_FIGURES = {"covid19": "9", "normal": "10", "pathological": "11"}


def pictures(contents: Contents) -> Iterator[Picture]:
    """Yields the figures in the paper's order.

    A study of many arms has figures of all of them together, and of `detailed_arms` alone.
    """
    for found in (_losses, _before_after, _overlays, _arms, _objects, _features):
        yield from (picture for picture in found(contents) if picture)


def _losses(contents: Contents) -> Iterator[Picture | None]:
    results, detailed = contents.results, set(detailed_arms(contents.results))
    for stage in results.stages:
        label = contents.numbering.losses(stage)
        groups = results.shared_arms(stage)
        for arms in groups:
            if detailed & set(arms):
                yield loss_picture(results, stage, arms, label=label)
        if any(not detailed & set(arms) for arms in groups):
            label = contents.numbering.extra("figure", ("losses", stage))
            yield losses_picture(results, stage, groups, label=label)


def _pairs(contents: Contents) -> Iterator[tuple[str, ChainPair]]:
    """Yields pairs of stages on whole hold-outs, of the arms that are shown alone."""
    shown = detailed_arms(contents.results)
    yield from ((arm, pair) for arm, pair in contents.pairs() if arm in shown and "@" not in pair.part)


def _before_after(contents: Contents) -> Iterator[Picture | None]:
    for arm, pair in _pairs(contents):
        request = BeforeAfter(contents.results, contents.aggregated, pair, arm, contents.reference)
        for pathology in ordered_pathologies(request.rows(pair.after)["pathology"]):
            if pathology != ALL:
                number = _PAPER_FIGURES.get(pathology)
                label = contents.numbering.paired(pair, pathology, number)
                yield before_after_picture(request, pathology, label=label)


def _overlays(contents: Contents) -> Iterator[Picture | None]:
    for arm, pair in _pairs(contents):
        request = OverlayRequest(contents.results, pair, arm)
        for number, build in (("12", overlay_picture), ("13", artefact_picture)):
            yield build(request, label=contents.numbering.paired(pair, number, number))


def _arms(contents: Contents) -> Iterator[Picture | None]:
    for evaluated in contents.plain_sets():
        found = contents.against_baseline(evaluated) if is_hold_out(evaluated.part) else []
        if any(len(frame) for _, frame in found):
            request = ArmsRequest(contents.results, contents.aggregated, evaluated, found)
            yield arms_picture(request, label=contents.numbering.extra("figure", evaluated))


def _objects(contents: Contents) -> Iterator[Picture | None]:
    for costs in contents.object_costs():
        for build in (object_costs_picture, object_arms_picture):
            key = (build.__name__, costs.section, costs.part)
            yield build(costs, label=contents.numbering.extra("figure", key))


def _features(contents: Contents) -> Iterator[Picture | None]:
    if not contents.deep:
        return
    detailed, groups = set(detailed_arms(contents.results)), contents.deep.groups
    for arms in groups:
        if detailed & set(arms):
            label = contents.numbering.extra("figure", ("features", arms))
            yield features_picture(contents.deep, arms, label=label)
    if any(not detailed & set(arms) for arms in groups):
        yield features_map(contents.deep, label=contents.numbering.extra("figure", "features"))
