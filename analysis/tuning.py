"""A search as table and figures, and what a study's report says of arms that were tuned."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from xferlab.analysis.results import EvaluationSet, StudyResults
from xferlab.analysis.selection import needs
from xferlab.analysis.tables.model import ABSENT, Group, Row, Table, number
from xferlab.analysis.tables.rendering import markdown_text, to_markdown, write_csv, write_table
from xferlab.cohort import single_sections
from xferlab.errors import StorageError
from xferlab.records.samples import SampleRecord, best_of, read_samples, read_tuning
from xferlab.records.store import Store

COLUMNS = ("sample", "sample_id", "outcome", "num_epochs", "max_epochs", "epochs_saved", "score")


def load_samples(storage: str | Path, tuning_id: str) -> pd.DataFrame:
    """Returns the finished samples of a search, one row each, by number.

    Columns: `COLUMNS`, then one per parameter by its path; score is NaN for a sample that diverged or is
    invalid. Mappings and lists among the values are JSON text.

    Raises:
        RecordError: There is no such search, or it is damaged.
    """
    store = Store.open(storage)
    return _frame(read_tuning(store, tuning_id), read_samples(store, tuning_id))


def load_curves(storage: str | Path, tuning_id: str) -> pd.DataFrame:
    """Returns the curves of the finished samples: sample, repetition (0: the mean of all), epoch, score.

    Raises:
        RecordError: There is no such search, or it is damaged.
    """
    store = Store.open(storage)
    read_tuning(store, tuning_id)
    rows = []
    for record in read_samples(store, tuning_id):
        curves = [record.curve, *(repetition.scores for repetition in record.repetitions)]
        for repetition, curve in enumerate(curves):
            rows += [(record.number, repetition, epoch, score) for epoch, score in enumerate(curve, start=1)]
    return pd.DataFrame(rows, columns=["sample", "repetition", "epoch", "score"])


def tuning_report(storage: str | Path, tuning_id: str, out: str | Path) -> Path:
    """Writes `tuning.md`, `tables/{samples,curves}.*` and `figures/*` of a search; returns the page's path.

    Raises:
        RecordError: There is no such search, or it is damaged.
        StorageError: The folder cannot be written.
    """
    from xferlab.analysis.figures.files import save
    from xferlab.analysis.figures.tuning import tuning_pictures

    store = Store.open(storage)
    document, records = read_tuning(store, tuning_id), read_samples(store, tuning_id)
    table, folder = samples_table(document, records), Path(out).resolve()
    page = folder / "tuning.md"
    lines = [
        f"# Search {markdown_text(tuning_id)}",
        "",
        *(f"- {markdown_text(fact)}" for fact in _facts(document)),
        "",
        f"## {markdown_text(table.title)}",
        "",
        to_markdown(table),
    ]
    try:
        write_table(table, folder / "tables")
        write_csv(load_curves(storage, tuning_id), folder / "tables" / "curves.csv")
        for picture in tuning_pictures(document, _frame(document, records)):
            png, *_ = save(picture, folder / "figures")
            title, caption = markdown_text(picture.title), markdown_text(" ".join(picture.caption))
            lines += [f"## {title}", "", f"![{title}]({png.relative_to(folder)})", "", caption, ""]
        page.write_text("\n".join(lines).rstrip() + "\n", "utf-8")
    except OSError as error:
        raise StorageError(
            f"{folder}: the report cannot be written: {error}; give another with --report"
        ) from error
    return page


def samples_table(document: Mapping[str, Any], records: list[SampleRecord]) -> Table:
    """Returns the samples of a search: those that trained to their end first, then the best."""
    ranked, score = sorted(records, key=SampleRecord.rank), document["score"]
    best, paths = best_of(records), [parameter["path"] for parameter in document["space"]]
    rows = [
        Row(
            f"{record.number}{' (winner)' if record is best else ''}",
            (
                record.outcome,
                f"{record.num_epochs} of {record.max_epochs}",
                number(record.score),
                *(_value(record.parameters[path]) for path in paths),
            ),
        )
        for record in ranked
    ]
    invalid = any(record.outcome == "invalid" for record in records)
    trained = sum(record.epochs_trained for record in records)
    saved = sum(record.epochs_saved for record in records)
    return Table(
        name="samples",
        title=f"Samples of stage {document['stage']}, arm {document['arm']}",
        caption=(
            f"Score: mean over repetitions of the {score['label']} of the best weights up to the last epoch, "
            f"computed as for the untuned arm ({score['better']} is better); a repetition that stops before "
            "keeps its last one.",
            "Stopped: ended early as one of the worse; its score is that of fewer epochs.",
            "Diverged: a loss became infinite or undefined.",
            *(["Invalid: not trained, as the values are not valid together."] if invalid else []),
        ),
        notes=(
            f"Only samples that trained to their end can win. {trained} epochs trained; stopping early saved "
            f"at most {saved}.",
        ),
        head=("Search",),
        stub="Sample",
        columns=("Outcome", "Epochs", "Score", *paths),
        groups=(Group((document["search"],), tuple(rows)),) if rows else (),
        data=_frame(document, ranked),
    )


def tuned_arms(plan: Mapping[str, Any], stage: str) -> dict[str, list[Mapping[str, Any]]]:
    """Returns the arms whose weights of a stage rest on searches, with what they carry of these.

    An arm that was tuned in a stage is so in that stage and all that take anything from it.
    """
    carried = [(arm, search) for arm, entry in plan["arms"].items() for search in entry.get("tuned", ())]
    tuned = {}
    for arm in plan["arms"] if carried else ():
        needed = needs(plan, arm, stage)
        if searches := [search for other, search in carried if (other, search["stage"]) in needed]:
            tuned[arm] = searches
    return tuned


def tuned_on(plan: Mapping[str, Any], evaluated: EvaluationSet) -> frozenset[str]:
    """Returns the arms that a search chose, or may have chosen, by patients of a set.

    The test patients of one repetition select in another. A hold-out is safe where the search held out the
    same images.
    """
    sections = set(single_sections(evaluated.section))
    return frozenset(
        arm
        for arm, searches in tuned_arms(plan, evaluated.stage).items()
        if not evaluated.is_hold_out
        or any(not sections.issubset(search.get("same_hold_outs", ())) for search in searches)
    )


def tuned_notes(results: StudyResults, stage: str, arms: Iterable[str]) -> tuple[str, ...]:
    """Returns a sentence for each search of some arms, for the foot of a table of this stage."""
    tuned = tuned_arms(results.plan, stage)
    return tuple(tuned_sentence(arm, search) for arm in dict.fromkeys(arms) for search in tuned.get(arm, ()))


def tuned_sentence(arm: str, search: Mapping[str, Any]) -> str:
    """Returns on what an arm was tuned, and what follows for its numbers."""
    parts, same = search["validated_on"], search.get("same_hold_outs")
    repetitions = ", ".join(str(part["repetition"]) for part in parts)
    patients = sorted({part["patients"] for part in parts})
    counts = str(patients[0]) if len(patients) == 1 else f"{patients[0]} to {patients[-1]}"
    stopped = f", {search['num_stopped']} of them stopped early" if search.get("num_stopped") else ""
    return (
        f"Arm {arm} was tuned in stage {search['stage']}: best of {search['num_samples']} samples "
        f"({search['search']} search{stopped}) by the validation score of "
        f"repetition{'s' if len(parts) > 1 else ''} {repetitions} "
        f"({counts} patients each of {parts[0]['section']}). These are test patients of other repetitions, "
        "so it is compared with other arms only on hold-outs that the search held out, too: "
        f"{'those of ' + ' and '.join(same) if same else 'none of this study'}."
    )


def _frame(document: Mapping[str, Any], records: list[SampleRecord]) -> pd.DataFrame:
    paths = [parameter["path"] for parameter in document["space"]]
    rows = [
        (
            record.number,
            record.sample_id,
            record.outcome,
            record.num_epochs,
            record.max_epochs,
            record.epochs_saved,
            float("nan") if record.score is None else record.score,
            *(_plain(record.parameters[path]) for path in paths),
        )
        for record in records
    ]
    # Objects, or pandas makes NaN of a choice that is null, and floats of whole numbers beside it.
    frame = pd.DataFrame(rows, columns=[*COLUMNS, *paths], dtype=object)
    whole = ("sample", "num_epochs", "max_epochs", "epochs_saved")
    return frame.astype({**dict.fromkeys(whole, "int64"), "score": "float64"})


def _facts(document: Mapping[str, Any]) -> list[str]:
    parts, asha = document["validated_on"], document["asha"]
    early = (
        f"the worse {asha['reduction'] - 1} of {asha['reduction']} stop at epoch {asha['grace_epochs']}, at "
        f"{asha['reduction']} times that, and so on"
        if asha
        else "no sample stops early"
    )
    counts = dict.fromkeys(f"{part['cases']} images of {part['patients']} patients" for part in parts)
    return [
        f"Study {document['study']}, arm {document['arm']}, stage {document['stage']}.",
        f"{document['search']} search with seed {document['seed']}; {early}.",
        f"{document['repetitions']} repetitions a sample, validated on {', '.join(counts)} of "
        f"{parts[0]['section']}.",
        "No test or hold-out case was read.",
    ]


def _value(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(_plain(value)) or ABSENT


def _plain(value: Any) -> Any:
    return json.dumps(value, sort_keys=True) if isinstance(value, dict | list) else value
