"""The names of all files of a storage: the only place that spells them.

Every attribute is a name in the storage. `folder` and `checkpoint` are folders.
"""

from __future__ import annotations

STUDIES, TRIALS, SELECTIONS, DONORS, SEARCHES = "studies", "trials", "selections", "donors", "tuning"
PREDICTIONS, STATES = "predictions", "states"
RECORD, SPEC, SEARCH, STATE = "record.json", "spec.json", "tuning.json", ".pt"


class StudyFiles:
    """Files of a study, by its name.

    Attributes:
        plan: The last plan: names and ids of its trials.
        lease: Which process runs the study now.
        index: Cache of what is complete; it can be deleted at any time.
        requests: Folder of requests to cancel trials, with a folder for each run by the token of its lease.
        cancelled: Why trials were cancelled in the last run.
        mirror_notes: Folder with a note for each trial whose W&B run may lack something.
    """

    def __init__(self, study: str):
        folder = f"{STUDIES}/{study}"
        self.plan = f"{folder}/plan.json"
        self.lease = f"{folder}/driver.lease"
        self.index = f"{folder}/index.json"
        self.requests = f"{folder}/requests"
        self.cancelled = f"{folder}/cancelled.json"
        self.mirror_notes = f"{folder}/mirror"


class TrialFiles:
    """Files of a trial, by its id.

    Attributes:
        folder: Everything of the trial.
        spec: What is needed to run it again.
        progress: One line an epoch of a training that has not ended.
        history: One line an epoch of a training that has ended.
        checkpoint: Folder of the latest full states (to resume) and of the best weights (for children).
        weights: Best weights, safetensors.
        run: Times, memory, host, versions and attempts: what is not a function of the spec.
        failure: The last failure: first real traceback, signal, memory.
        logs: Folder of what was said of it, for people.
        record: Written last: the trial is complete if it exists and verifies.
    """

    def __init__(self, trial_id: str):
        self.folder = f"{TRIALS}/{trial_id}"
        self.spec = f"{self.folder}/{SPEC}"
        self.progress = f"{self.folder}/progress.jsonl"
        self.history = f"{self.folder}/history.jsonl"
        self.checkpoint = f"{self.folder}/checkpoint"
        self.weights = f"{self.checkpoint}/best.safetensors"
        self.run = f"{self.folder}/run.json"
        self.failure = f"{self.folder}/failure.json"
        self.logs = f"{self.folder}/logs"
        self.record = f"{self.folder}/{RECORD}"

    def evaluation(self, evaluation_id: str) -> MeasurementFiles:
        """Returns the files of one evaluation."""
        return MeasurementFiles(f"{self.folder}/evaluations/{evaluation_id}")

    def features(self, features_id: str) -> MeasurementFiles:
        """Returns the files of the trial's deep features."""
        return MeasurementFiles(f"{self.folder}/features/{features_id}")


class MeasurementFiles:
    """Files of an evaluation, of deep features, or of what is predicted for other trials.

    Attributes:
        folder: All of them.
        record: Written last.
    """

    def __init__(self, folder: str):
        self.folder = folder
        self.record = f"{folder}/{RECORD}"

    def table(self, name: str) -> str:
        """Returns a table: an evaluation has `cases`, `outputs`, `pictures`; deep features have `features`.

        What is predicted for other trials lies under the first 16 digits of its digest.
        """
        return f"{self.folder}/{name}.parquet"


class SearchFiles:
    """Files of a search, by its id. Its samples lie below its folder as trials lie in a storage.

    Attributes:
        folder: Everything of the search.
        tuning: What the search is: arm, stage, space, and what its samples are compared by.
        lease: Which process runs the search now.
    """

    def __init__(self, tuning_id: str):
        self.folder = f"{SEARCHES}/{tuning_id}"
        self.tuning = f"{self.folder}/{SEARCH}"
        self.lease = f"{self.folder}/driver.lease"


def selection_path(digest: str) -> str:
    """An ordered choice of cases, under its own digest."""
    return f"{SELECTIONS}/{digest}.json"


def donor_path(sha256: str) -> str:
    """Given weights under their own digest, so that workers need neither the network nor the user's disk."""
    return f"{DONORS}/{sha256}"


def prediction_files(prediction_id: str) -> MeasurementFiles:
    """What a trial predicts of some cases for other trials."""
    return MeasurementFiles(f"{PREDICTIONS}/{prediction_id}")


def states_folder(course_id: str) -> str:
    """Folder of the kept states of trials that go through the same epochs."""
    return f"{STATES}/{course_id}"


def state_path(course_id: str, trial_id: str) -> str:
    """The kept state of a trial at the end of its training."""
    return f"{states_folder(course_id)}/{trial_id}{STATE}"
