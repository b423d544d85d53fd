"""A search as table and figures, and what a study's report says of arms that were tuned."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from xferlab.analysis.results import StudyResults
from xferlab.analysis.tables.model import ABSENT, Group, Row, Table, number
from xferlab.analysis.tables.rendering import markdown_text, to_markdown, write_csv, write_table
from xferlab.errors import StorageError
from xferlab.records.samples import SampleRecord, best_of, read_samples, read_tuning
from xferlab.records.store import Store

COLUMNS = ("sample", "sample_id", "outcome", "num_epochs", "max_epochs", "epochs_saved", "loss")


def load_samples(storage: str | Path, tuning_id: str) -> pd.DataFrame:
    """Returns the finished samples of a search, one row each, by number.

    Columns: `COLUMNS`, then one per parameter by its path; loss is NaN for a sample that diverged. Mappings
    and lists among the values are JSON text.

    Raises:
        RecordError: There is no such search, or it is damaged.
    """
    store = Store.open(storage)
    document = read_tuning(store, tuning_id)
    return _frame(document, read_samples(store, tuning_id))


def load_curves(storage: str | Path, tuning_id: str) -> pd.DataFrame:
    """Returns the curves of the finished samples: sample, repetition (0: the mean of all), epoch, loss.

    Raises:
        RecordError: There is no such search, or it is damaged.
    """
    store = Store.open(storage)
    read_tuning(store, tuning_id)
    rows = []
    for record in read_samples(store, tuning_id):
        curves = [record.curve, *(one.losses for one in record.repetitions)]
        for repetition, curve in enumerate(curves):
            rows += [(record.number, repetition, epoch, loss) for epoch, loss in enumerate(curve, start=1)]
    return pd.DataFrame(rows, columns=["sample", "repetition", "epoch", "loss"])


def tuning_report(storage: str | Path, tuning_id: str, out: str | Path) -> Path:
    """Writes `tuning.md`, `tables/{samples,curves}.*` and `figures/*` of a search; returns the page's path.

    Raises:
        RecordError: There is no such search, or it is damaged.
        StorageError: The folder cannot be written.
    """
    from xferlab.analysis.figures.style import save
    from xferlab.analysis.figures.tuning import tuning_pictures

    store = Store.open(storage)
    document, records = read_tuning(store, tuning_id), read_samples(store, tuning_id)
    frame, folder = _frame(document, records), Path(out).resolve()
    table = samples_table(document, records)
    try:
        write_table(table, folder / "tables")
        curves = load_curves(storage, tuning_id)
        write_csv(curves, folder / "tables" / "curves.csv")
        lines = [
            f"# Search {markdown_text(tuning_id)}",
            "",
            *_listed(_facts(document)),
            "",
            f"## {markdown_text(table.title)}",
            "",
        ]
        lines += [to_markdown(table)]
        for picture in tuning_pictures(document, frame):
            png, _ = save(picture, folder / "figures")
            title = markdown_text(picture.title)
            caption = markdown_text(" ".join(picture.caption))
            lines += [f"## {title}", "", f"![{title}]({png.relative_to(folder)})", "", caption, ""]
        page = folder / "tuning.md"
        page.write_text("\n".join(lines).rstrip() + "\n", "utf-8")
    except OSError as error:
        raise StorageError(
            f"{folder}: the report cannot be written: {error}; give another with --report"
        ) from error
    return page


def samples_table(document: Mapping[str, Any], records: list[SampleRecord]) -> Table:
    """Returns the samples of a search: those that trained to their end first, the lowest loss first."""
    order = {"complete": 0, "stopped": 1, "diverged": 2}
    ranked = sorted(
        records, key=lambda one: (order[one.outcome], one.loss if one.loss is not None else 0.0, one.number)
    )
    best, paths = best_of(records), [one["path"] for one in document["space"]]
    frame = _frame(document, ranked)
    rows = [
        Row(
            f"{one.number}{' (winner)' if one is best else ''}",
            (
                one.outcome,
                f"{one.num_epochs} of {one.max_epochs}",
                number(one.loss),
                *(_value(one.parameters[path]) for path in paths),
            ),
        )
        for one in ranked
    ]
    return Table(
        name="samples",
        title=f"Samples of stage {document['stage']}, arm {document['arm']}",
        caption=(
            "Loss: mean over repetitions of the validation loss, by the untuned arm's loss and batch size, "
            "of the best weights up to the last epoch; a repetition that stops before carries its own on.",
            "Stopped: ended early as one of the worse; its loss is that of fewer epochs.",
            "Diverged: a loss became infinite or undefined.",
        ),
        notes=(f"Only samples that trained to their end can win. {_saving(records)}",),
        head=("Search",),
        stub="Sample",
        columns=("Outcome", "Epochs", "Loss", *paths),
        groups=(Group((document["search"],), tuple(rows)),) if rows else (),
        data=frame,
    )


def tuned_arms(plan: Mapping[str, Any], stage: str) -> dict[str, Mapping[str, Any]]:
    """Returns the arms whose weights of a stage rest on a search, with what they carry of it.

    An arm that was tuned in a stage is so in that stage and all that start from it.
    """
    found = {}
    for arm, told in plan["arms"].items():
        line, name = [], stage
        while name and name not in line:
            line.append(name)
            name = told["stages"].get(name, {}).get("starts_from")
        own = [one for one in told.get("tuned", ()) if one["stage"] in line]
        if own:
            found[arm] = own[-1]
    return found


def tuned_notes(results: StudyResults, stage: str, arms: Iterable[str]) -> tuple[str, ...]:
    """Returns a sentence for each of some arms that was tuned, for the foot of a table of this stage."""
    tuned = tuned_arms(results.plan, stage)
    return tuple(tuned_sentence(arm, tuned[arm]) for arm in dict.fromkeys(arms) if arm in tuned)


def tuned_sentence(arm: str, told: Mapping[str, Any]) -> str:
    """Returns on what an arm was tuned, and what follows for its numbers."""
    on = told["validated_on"]
    repetitions = ", ".join(str(one["repetition"]) for one in on)
    patients = sorted({one["patients"] for one in on})
    counts = str(patients[0]) if len(patients) == 1 else f"{patients[0]} to {patients[-1]}"
    stopped = f", {told['num_stopped']} of them stopped early" if told.get("num_stopped") else ""
    return (
        f"Arm {arm} was tuned in stage {told['stage']}: best of {told['num_samples']} samples "
        f"({told['search']} search{stopped}) by the validation loss of "
        f"repetition{'s' if len(on) > 1 else ''} {repetitions} "
        f"({counts} patients each of {on[0]['section']}). These are test patients of other repetitions, "
        "so it is compared with other arms on hold-outs only."
    )


def _frame(document: Mapping[str, Any], records: list[SampleRecord]) -> pd.DataFrame:
    paths = [one["path"] for one in document["space"]]
    rows = [
        (
            one.number,
            one.sample_id,
            one.outcome,
            one.num_epochs,
            one.max_epochs,
            one.epochs_saved,
            float("nan") if one.loss is None else one.loss,
            *(_plain(one.parameters[path]) for path in paths),
        )
        for one in records
    ]
    # Objects, or pandas makes NaN of a choice that is null, and floats of whole numbers beside it.
    frame = pd.DataFrame(rows, columns=[*COLUMNS, *paths], dtype=object)
    kinds: dict[str, Any] = {
        name: "int64" for name in COLUMNS if name not in ("sample_id", "outcome", "loss")
    }
    return frame.astype({**kinds, "loss": "float64"})


def _facts(document: Mapping[str, Any]) -> list[str]:
    on = document["validated_on"]
    asha = document["asha"]
    early = (
        f"the worse {asha['reduction'] - 1} of {asha['reduction']} stop at epoch {asha['grace_epochs']}, at "
        f"{asha['reduction']} times that, and so on"
        if asha
        else "no sample stops early"
    )
    return [
        f"Study {document['study']}, arm {document['arm']}, stage {document['stage']}.",
        f"{document['search']} search with seed {document['seed']}; {early}.",
        f"{document['repetitions']} repetitions a sample, validated on "
        + ", ".join(dict.fromkeys(f"{one['cases']} images of {one['patients']} patients" for one in on))
        + f" of {on[0]['section']}.",
        "No test or hold-out case was read.",
    ]


def _listed(items: Iterable[str]) -> list[str]:
    return [f"- {markdown_text(item)}" for item in items]


def _saving(records: list[SampleRecord]) -> str:
    trained, saved = sum(one.epochs_trained for one in records), sum(one.epochs_saved for one in records)
    return f"{trained} epochs trained; stopping early saved at most {saved}."


def _value(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(_plain(value)) or ABSENT


def _plain(value: Any) -> Any:
    return json.dumps(value, sort_keys=True) if isinstance(value, dict | list) else value
