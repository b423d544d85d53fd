"""Hand-over values of what happened, and the columns of the parquet files. JSON round trip, no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from xferlab.errors import other_version
from xferlab.plan.identity import sha256_of
from xferlab.plan.spec import without_nothing
from xferlab.records.layout import MeasurementFiles, TrialFiles

RECORD_VERSION = 2

_TEXT = pa.dictionary(pa.int32(), pa.string())
CASES_SCHEMA = pa.schema(
    [
        ("case", _TEXT),  # digest of the case
        ("name", _TEXT),  # what a reader calls it
        ("patient", _TEXT),  # its patient
        ("pathology", _TEXT),  # the group of the image
        ("simulated", _TEXT),  # empty for a real device
        ("metric", _TEXT),  # its name
        ("value", pa.float64()),  # NaN where the metric is undefined
    ]
)
"""`cases.parquet`: one row per case and metric, in the order of the selection and of the metrics."""

OUTPUTS_SCHEMA = pa.schema(
    [
        ("case", pa.string()),  # digest of the case
        ("name", pa.string()),  # what a reader calls it
        ("patient", pa.string()),  # its patient
        ("pathology", pa.string()),  # the group of the image
        ("simulated", pa.string()),  # empty for a real device
        ("array", pa.string()),  # what the task calls it
        ("dtype", pa.string()),  # as NumPy writes it, such as |u1
        ("shape", pa.list_(pa.int32())),
        ("data", pa.binary()),  # row-major
    ]
)
"""`outputs.parquet`: named arrays of a fixed, seeded few cases per pathology, a row per case and array."""

PICTURES_SCHEMA = pa.schema(
    [
        ("case", pa.string()),  # digest of the case
        ("picture", pa.binary()),  # a JPEG file
    ]
)
"""`pictures.parquet`: a small picture (JPEG) of each case that its evaluation ranks worst, median or best."""

FEATURES_SCHEMA = pa.schema(
    [
        ("layer", pa.string()),  # its name in the network
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
class CaseOutputs:
    """The arrays that are stored of one case to look at.

    Attributes:
        case: Digest of the case.
        name: What a reader calls it.
        patient: Its patient.
        pathology: Its pathology.
        simulated: The simulated device; empty for a real one.
        arrays: By the task's names.
    """

    case: str
    name: str
    patient: str
    pathology: str
    simulated: str
    arrays: Mapping[str, NDArray[Any]]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yields the rows of `OUTPUTS_SCHEMA`."""
        for name, array in self.arrays.items():
            content = {"dtype": array.dtype.str, "shape": array.shape, "data": array.tobytes()}
            yield {**vars(self), "array": name, **content}

    @staticmethod
    def from_table(table: pa.Table) -> list[CaseOutputs]:
        """Returns the cases of a table of `OUTPUTS_SCHEMA`, in its order."""
        cases: dict[str, CaseOutputs] = {}
        for row in table.to_pylist():
            labels = {name: row[name] for name in ("case", "name", "patient", "pathology", "simulated")}
            case = cases.setdefault(row["case"], CaseOutputs(**labels, arrays={}))
            array = np.frombuffer(row["data"], np.dtype(row["dtype"])).reshape(row["shape"])
            cases[row["case"]] = replace(case, arrays={**case.arrays, row["array"]: array})
        return list(cases.values())


@dataclass(frozen=True)
class EpochResult:
    """What one epoch gave; one line of `history.jsonl`.

    Attributes:
        epoch: From 1.
        values: Numbers by name: `train_...` and `validation_...` as the task names them (means over the
            images, validation in float32), and `lr`, the learning rate that the epoch used; None for NaN.
        score: The value that epochs are judged by; None where the task has none.
        improved: Whether the score is the best so far; always true where there is none.
        train_s: Seconds of the training pass.
        validation_s: Seconds of the validation pass.
    """

    epoch: int
    values: Mapping[str, float | None]
    score: float | None
    improved: bool
    train_s: float
    validation_s: float

    def to_json(self) -> dict[str, Any]:
        """Returns a JSON value; `EpochResult(**value)` is its inverse."""
        return asdict(self)

    def flat(self) -> dict[str, Any]:
        """Returns all numbers by name in one mapping, for curves and tables."""
        fields = {name: value for name, value in asdict(self).items() if name != "values"}
        return {**fields, **self.values}

    def outcome(self) -> list[Any]:
        """Returns what is a function of the spec: everything but the times."""
        return [self.epoch, dict(self.values), self.score, self.improved]


def history_sha256(results: Iterable[EpochResult]) -> str:
    """Returns the digest of the epochs' outcomes, times left out."""
    return sha256_of([result.outcome() for result in results])


def ended_by(num_epochs: int, best_epoch: int, *, max_epochs: int, patience: int) -> str:
    """Returns what ends a training after so many epochs: `patience`, `max_epochs`, or an empty string."""
    if num_epochs and num_epochs - best_epoch >= patience:
        return "patience"
    return "max_epochs" if num_epochs >= max_epochs else ""


@dataclass(frozen=True)
class Record:
    """The base of all records: a JSON value with a version."""

    def to_json(self) -> dict[str, Any]:
        """Returns a JSON value; `from_json` is its inverse."""
        return without_nothing({"version": RECORD_VERSION, **asdict(self)}, "predictions")

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Returns the record that `to_json` wrote; a checksum is ignored.

        Raises:
            RecordError: Another version of xferlab wrote it.
        """
        version = value.get("version")
        if version != RECORD_VERSION:
            raise other_version("this record", version, RECORD_VERSION)
        return cls(**{name: item for name, item in value.items() if name not in ("version", "sha256")})


@dataclass(frozen=True)
class TrialRecord(Record):
    """A complete training; a function of the spec, equal byte for byte between runs on the CPU.

    Attributes:
        trial_id: Its identity's hash.
        identity: What could change the weights.
        num_epochs: Epochs trained.
        best_epoch: Epoch whose weights were kept: the first of the best score, the last without a score.
        best_score: Its score; None without one.
        stopped_by: `patience` or `max_epochs`.
        num_parameters: Trainable parameters.
        num_train: Training images.
        num_validation: Validation images.
        started_from: Trial id or weights digest that it started from, by role where there are several; None
            from scratch.
        weights_sha256: Digest of the best weights' file.
        weights_bytes: Its size.
        history_sha256: Digest of the epochs' outcomes.
        predictions: Digest of each prediction of other trials that it trained with, by role and the
            prediction's id; None, and not in the file, where it took none.
    """

    trial_id: str
    identity: Mapping[str, Any]
    num_epochs: int
    best_epoch: int
    best_score: float | None
    stopped_by: str
    num_parameters: int
    num_train: int
    num_validation: int
    started_from: str | Mapping[str, str] | None
    weights_sha256: str
    weights_bytes: int
    history_sha256: str
    predictions: Mapping[str, Mapping[str, str]] | None = None


@dataclass(frozen=True, kw_only=True)
class MeasurementRecord(Record):
    """The base of what is measured of a trial's weights.

    Attributes:
        trial_id: Whose best weights were measured.
        selection: Digest of the selection of cases.
        num_cases: How many cases it has.
        weights_sha256: Digest of the weights that were measured.
        tables: Digests of its parquet files by name; the writer fills it.
    """

    trial_id: str
    selection: str
    num_cases: int
    weights_sha256: str
    tables: Mapping[str, str] = field(default_factory=dict)

    @property
    def files(self) -> MeasurementFiles:
        """Where it lies."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class EvaluationRecord(MeasurementRecord):
    """One complete evaluation, with tables `cases`, `outputs` and, where the task draws any, `pictures`.

    A function of trial and evaluated cases.

    Attributes:
        evaluation_id: Its identity.
        metrics_version: Version of the metrics.
        predictions: Digest of each prediction of other trials that it took, as of a trial's record.
    """

    evaluation_id: str
    metrics_version: int
    predictions: Mapping[str, Mapping[str, str]] | None = None

    @property
    def files(self) -> MeasurementFiles:
        """Where it lies."""
        return TrialFiles(self.trial_id).evaluation(self.evaluation_id)


@dataclass(frozen=True, kw_only=True)
class FeaturesRecord(MeasurementRecord):
    """Stored deep features of n cases, with table `features`: of a trial's weights at the start and the best.

    Attributes:
        features_id: Their identity.
    """

    features_id: str

    @property
    def files(self) -> MeasurementFiles:
        """Where it lies."""
        return TrialFiles(self.trial_id).features(self.features_id)
