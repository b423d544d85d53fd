"""Deep features of a trial on a few cases, from its start to its best weights: never raw activations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from xferlab.plan.spec import TrialSpec
from xferlab.records import reader, writer
from xferlab.records.schema import FEATURES_SCHEMA, FeaturesRecord
from xferlab.tasks import registry
from xferlab.training.examples import AnyExamples
from xferlab.training.learner import Layer
from xferlab.trial.examples import TrialContext, examples
from xferlab.trial.origin import load_origins
from xferlab.trial.predictions import predictions_for
from xferlab.trial.training import AnyLearner

Array = NDArray[np.float64]


def extract(
    spec: TrialSpec,
    learner: AnyLearner,
    context: TrialContext,
    *,
    weights: str,
    after_case: Callable[[], None] = lambda: None,
) -> FeaturesRecord:
    """Stores what the analysis of deep features needs of a trial.

    Args:
        spec: A trial that asks for features.
        learner: Its learner with its best weights.
        context: Where its parent's weights are and the record goes.
        weights: SHA-256 of its best weights.
        after_case: Called after each case; may raise to end it with nothing written.

    Returns:
        The record, which is written last.

    Raises:
        DonorError: The weights that it started from do not fit.
        RecordError: They are missing or altered.
    """
    asked = spec.features
    assert asked is not None
    start = registry.learner_of(spec.identity, context.device)
    load_origins(spec, start, context)
    digests = reader.read_selection(context.store, asked.selection).digests
    given = predictions_for(spec, asked.predicted, asked.source, context)
    loaded = given.give(examples(spec, asked.source, digests, context), digests)
    names = spec.identity.compared_layers
    grams = [
        {layer: gram(x) for layer, x in pooled(each, names, loaded, after_case=after_case).items()}
        for each in (start, learner)
    ]
    before, after = start.layers(), learner.layers()
    changes = {name: change(kernels(before[name]), kernels(after[name])) for name in names}
    data = writer.table(FEATURES_SCHEMA, _columns(*grams, changes=changes))
    record = FeaturesRecord(
        features_id=asked.features_id,
        trial_id=spec.trial_id,
        selection=asked.selection,
        num_cases=len(digests),
        weights_sha256=weights,
    )
    return writer.write_measurement(context.store, record, {"features": data})


def pooled(
    learner: AnyLearner,
    names: Sequence[str],
    loaded: AnyExamples,
    *,
    after_case: Callable[[], None] = lambda: None,
) -> dict[str, Array]:
    """Returns the output of every layer averaged over the image: layer -> (N, channels), float64.

    Each case goes through the network alone, as it is predicted, in float32; where that is done tile by tile,
    all its tiles are averaged.

    Args:
        learner: On any device; its networks are left in evaluation mode.
        names: The layers.
        loaded: The N cases.
        after_case: Called after each case.
    """
    layers = learner.layers()
    pieces: dict[str, list[Array]] = {name: [] for name in names}

    def keep(name: str, module: nn.Module, inputs: object, output: Tensor) -> None:
        del module, inputs
        pieces[name].append(output.double().mean(dim=(2, 3)).cpu().numpy())

    hooks = [layers[name].module.register_forward_hook(partial(keep, name)) for name in names]
    rows: dict[str, list[Array]] = {name: [] for name in names}
    try:
        for row in range(len(loaded)):
            learner.predict(learner.load(loaded, np.array([row]), None))
            for name, parts in pieces.items():
                rows[name].append(np.concatenate(parts).mean(axis=0))
                parts.clear()
            after_case()
    finally:
        for hook in hooks:
            hook.remove()
    return {name: np.stack(means) for name, means in rows.items()}


def gram(features: Array) -> Array:
    """Returns the Gram matrix (N, N) of features (N, channels) that are first centred over the N cases."""
    centred = features - features.mean(axis=0)
    # Not by a BLAS, whose order of summation, and so the last bit, is a matter of the machine.
    products: Array = np.einsum("ic,jc->ij", centred, centred)
    return products


def kernels(layer: Layer) -> list[Array]:
    """Returns the kernels of a layer's convolutions, each as (output channels, all else)."""
    weights = []
    for module in [inner for part in layer.kernels for inner in part.modules()]:
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            # A transposed convolution has its output channels second.
            weight = module.weight.transpose(0, 1) if module.transposed else module.weight
            weights.append(weight.detach().flatten(1).double().cpu().numpy())
    return weights


class Change(NamedTuple):
    """How far the kernels of a layer moved: 0 for 0/0, infinite where only the denominator is 0.

    Attributes:
        distance: ||W - W0|| / ||W0|| over all kernels.
        cosine: <W, W0> / (||W|| ||W0||), NaN where a norm is 0.
        filter_changes: ||w - w0|| / ||w0|| of each filter.
    """

    distance: float
    cosine: float
    filter_changes: Array


def change(before: list[Array], after: list[Array]) -> Change:
    """Returns how far kernels moved.

    Args:
        before: Kernels of one layer, as `kernels` gives them.
        after: The same kernels later, W in place of W0.
    """
    first, second = (np.concatenate([kernel.ravel() for kernel in each]) for each in (before, after))
    norms = float(np.linalg.norm(first)), float(np.linalg.norm(second))
    moved = [np.linalg.norm(b - a, axis=1) for a, b in zip(before, after, strict=True)]
    size = [np.linalg.norm(kernel, axis=1) for kernel in before]
    distance = _relative(np.array([np.linalg.norm(second - first)]), np.array([norms[0]]))
    return Change(
        distance=float(distance[0]),
        cosine=float(first @ second) / (norms[0] * norms[1]) if all(norms) else float("nan"),
        filter_changes=_relative(np.concatenate(moved), np.concatenate(size)),
    )


def _relative(change: Array, size: Array) -> Array:
    quotient = np.divide(change, size, out=np.full_like(change, np.inf), where=size > 0)
    return np.where(change == 0, 0.0, quotient)


def _columns(
    start: Mapping[str, Array], best: Mapping[str, Array], *, changes: Mapping[str, Change]
) -> dict[str, list[Any]]:
    return {
        "layer": list(changes),
        "gram_start": [start[layer].ravel().astype(np.float32) for layer in changes],
        "gram_best": [best[layer].ravel().astype(np.float32) for layer in changes],
        "distance": [moved.distance for moved in changes.values()],
        "cosine": [moved.cosine for moved in changes.values()],
        "filter_changes": [moved.filter_changes for moved in changes.values()],
    }
