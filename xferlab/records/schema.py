"""Hand-over values of what happened, and the columns of the parquet files. JSON round trip, no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from xferlab.errors import RecordError
from xferlab.plan.identity import sha256_of

RECORD_VERSION = 1

_TEXT = pa.dictionary(pa.int32(), pa.string())
CASES_SCHEMA = pa.schema(
    [
        ("case", _TEXT),  # digest of the case
        ("name", _TEXT),  # what a reader calls it
        ("patient", _TEXT),
        ("pathology", _TEXT),
        ("simulated", _TEXT),  # empty for a real device
        ("metric", _TEXT),
        ("value", pa.float64()),  # NaN where the metric is undefined
    ]
)
"""`cases.parquet`: one row per case and metric, in the order of the selection and of the metrics."""

OUTPUTS_SCHEMA = pa.schema(
    [
        ("case", pa.string()),
        ("name", pa.string()),
        ("patient", pa.string()),
        ("pathology", pa.string()),
        ("simulated", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        (
            "image",
            pa.binary(),
        ),  # uint8, height x width, first channel, as the network saw it before z-scoring
        ("target", pa.binary()),  # uint8: 0 background, 255 structure, 127 ignored
        ("probability", pa.binary()),  # uint8: 255 times the network's output
    ]
)
"""`outputs.parquet`: pixels of a fixed, seeded few cases per pathology, row-major."""


FEATURES_SCHEMA = pa.schema(
    [
        ("layer", pa.string()),
        ("gram_start", pa.list_(pa.float32())),  # n x n, row-major: of the weights that training started from
        ("gram_best", pa.list_(pa.float32())),  # of the best weights
        ("distance", pa.float64()),  # ||W - W0|| / ||W0|| of the layer's kernels
        ("cosine", pa.float64()),  # <W, W0> / (||W|| ||W0||)
        ("filter_changes", pa.list_(pa.float32())),  # ||w - w0|| / ||w0|| of each filter
    ]
)
"""`features.parquet`: one row per layer, in the order of the forward pass; never an activation.

Gram matrices are of activations averaged over the image, centred over the n cases, in the order of the
selection. A filter is what gives one output channel of a convolution; biases and normalisation stay out.
"""


@dataclass(frozen=True)
class EpochResult:
    """What one epoch gave; one line of `history.jsonl`.

    Attributes:
        epoch: From 1.
        train_loss: Mean over the epoch's images, weighted by batch size.
        validation_loss: Mean over the validation images, float32.
        lr: Learning rate that the epoch used.
        improved: Whether the validation loss is the lowest so far.
        train_s: Seconds of the training pass.
        validation_s: Seconds of the validation pass.
    """

    epoch: int
    train_loss: float
    validation_loss: float
    lr: float
    improved: bool
    train_s: float
    validation_s: float

    def to_json(self) -> dict[str, Any]:
        """Returns a JSON value; `EpochResult(**value)` is its inverse."""
        return asdict(self)

    def outcome(self) -> list[Any]:
        """Returns what is a function of the spec: everything but the times."""
        return [self.epoch, self.train_loss, self.validation_loss, self.lr, self.improved]


def history_sha256(results: Iterable[EpochResult]) -> str:
    """Returns the digest of the epochs' outcomes, times left out."""
    return sha256_of([result.outcome() for result in results])


@dataclass(frozen=True)
class TrialRecord:
    """A complete training; a function of the spec, equal byte for byte between runs on the CPU.

    Attributes:
        trial_id: Its identity's hash.
        identity: What could change the weights.
        num_epochs: Epochs trained.
        best_epoch: Epoch whose weights were kept (lowest validation loss, the first of equals).
        best_validation_loss: Its validation loss.
        stopped_by: `patience` or `max_epochs`.
        num_parameters: Trainable parameters.
        num_train: Training images.
        num_validation: Validation images.
        started_from: Trial id or weights digest that it started from; None from scratch.
        weights_sha256: Digest of the best weights' file.
        weights_bytes: Its size.
        history_sha256: Digest of the epochs' outcomes.
    """

    trial_id: str
    identity: Mapping[str, Any]
    num_epochs: int
    best_epoch: int
    best_validation_loss: float
    stopped_by: str
    num_parameters: int
    num_train: int
    num_validation: int
    started_from: str | None
    weights_sha256: str
    weights_bytes: int
    history_sha256: str

    def to_json(self) -> dict[str, Any]:
        """Returns a JSON value; `from_json` is its inverse."""
        return {"version": RECORD_VERSION, **asdict(self)}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> TrialRecord:
        """Returns the record that `to_json` wrote (a seal is ignored).

        Raises:
            RecordError: Another version of xferlab wrote it.
        """
        return TrialRecord(**_fields(value, f"trial {value.get('trial_id')}"))


@dataclass(frozen=True)
class EvaluationRecord:
    """One complete evaluation; a function of the trial and the evaluated cases.

    Attributes:
        evaluation_id: Its identity.
        trial_id: Whose best weights were measured.
        selection: Digest of the evaluated selection.
        num_cases: Evaluated images.
        metrics_version: Version of the metrics.
        cases_sha256: Digest of `cases.parquet`.
        outputs_sha256: Digest of `outputs.parquet`.
        weights_sha256: Digest of the weights that were measured; empty where it is not known.
    """

    evaluation_id: str
    trial_id: str
    selection: str
    num_cases: int
    metrics_version: int
    cases_sha256: str
    outputs_sha256: str
    weights_sha256: str = ""

    def to_json(self) -> dict[str, Any]:
        """Returns a JSON value; `from_json` is its inverse."""
        return {"version": RECORD_VERSION, **asdict(self)}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> EvaluationRecord:
        """Returns the record that `to_json` wrote (a seal is ignored).

        Raises:
            RecordError: Another version of xferlab wrote it.
        """
        return EvaluationRecord(**_fields(value, f"evaluation {value.get('evaluation_id')}"))


@dataclass(frozen=True)
class FeaturesRecord:
    """Stored deep features of a trial; a function of the trial and the cases.

    Attributes:
        features_id: Their identity.
        trial_id: Whose weights, at the start and the best.
        selection: Digest of the selection of cases.
        num_cases: n, the side of the Gram matrices.
        features_sha256: Digest of `features.parquet`.
        weights_sha256: Digest of the best weights that they are of; empty where it is not known.
    """

    features_id: str
    trial_id: str
    selection: str
    num_cases: int
    features_sha256: str
    weights_sha256: str = ""

    def to_json(self) -> dict[str, Any]:
        """Returns a JSON value; `from_json` is its inverse."""
        return {"version": RECORD_VERSION, **asdict(self)}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> FeaturesRecord:
        """Returns the record that `to_json` wrote (a seal is ignored).

        Raises:
            RecordError: Another version of xferlab wrote it.
        """
        return FeaturesRecord(**_fields(value, f"features {value.get('features_id')}"))


def _fields(value: Mapping[str, Any], what: str) -> dict[str, Any]:
    version = value.get("version")
    if version != RECORD_VERSION:
        raise RecordError(
            f"the record of {what} has version {version}, and this xferlab reads {RECORD_VERSION}; "
            "use the xferlab that wrote it, or another storage"
        )
    return {name: item for name, item in value.items() if name not in ("version", "sha256")}
