"""The process that holds wandb: it is fed JSON lines, writes runs, and dies alone.

A hang, a crash or a full disk in here never reaches the trial that feeds it. The lines are `begin`, `epoch`,
`outputs`, `table`, `pictures`, `figure`, `weights`, `alert` and `end`; `begin` and `end` are answered by one
word each. A feeder that ends without `end` was killed: its run is closed as interrupted. Whoever begins a run
sends all of its epochs, so offline folders that an earlier attempt left are deleted; what `wandb sync` has
uploaded stays, and is not written again. So every epoch of a run id is there once at any time.
"""

from __future__ import annotations

import itertools
import json
import os
import queue
import shutil
import sys
import threading
import time
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import PIL.Image
import wandb
from filelock import FileLock

from xferlab.errors import StorageError
from xferlab.tracking.content import SUPERSEDED, uses
from xferlab.tracking.mirrored_run import CONTENT, MirroredRun, continues
from xferlab.tracking.pipe import BEGUN, GAVE_UP, PRESENT, WRITTEN
from xferlab.tracking.wandb_objects import image_of, private_settings, weights_artifact

LOCK_S = 60.0
ARRIVAL_S = 10.0
"""Time that W&B has to show that a run has ended."""
_LONGEST_TITLE = 63


def main(linger_s: float) -> None:
    """Serves standard input until it ends; standard output carries the answers alone.

    Args:
        linger_s: Longest time that it goes on alone then.
    """
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    os.nice(5)
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(lines, linger_s), daemon=True).start()
    serve(iter(lines.get, b""), lambda word: _answer(answers, word))


def _answer(stream: IO[str], word: str) -> None:
    with suppress(BrokenPipeError):  # a trial that went on without its mirror does not listen
        print(word, file=stream)


def _receive(lines: queue.SimpleQueue[bytes], linger_s: float) -> None:
    # `os.read`, because a thread that sits inside sys.stdin cannot be left behind at exit.
    text = b""
    while chunk := os.read(0, 1 << 16):
        *whole, text = (text + chunk).split(b"\n")
        for line in whole:
            lines.put(line)
    lines.put(b"")
    timer = threading.Timer(linger_s, os._exit, (GAVE_UP,))
    timer.daemon = True
    timer.start()


def serve(lines: Iterable[bytes], answer: Callable[[str], None]) -> None:
    """Writes the runs that the lines describe, one after the other."""
    run: RunWriter | None = None
    for line in lines:
        message = json.loads(line)
        kind = message.pop("kind")
        if kind == "begin":
            run = RunWriter(message)
            answer(word := run.begin())
            run = run if word == BEGUN else None
        elif run is not None:
            getattr(run, kind)(**message)
            if kind == "end":
                run = None
                answer(WRITTEN)
    if run is not None:
        run.end(summary={}, outcome="interrupted", content="")


class RunWriter:
    """One run, offline or online, from `begin` to `end`."""

    def __init__(self, order: Mapping[str, Any]):
        """Takes a `RunOrder` with the study's tracking options, as `RunOrder.message` gives them."""
        self._order = order
        self._id: str = order["run_id"]
        self._root = Path(order["directory"])
        self._offline = order["mode"] == "offline"
        self._images: int = order["images"]
        self._tags: dict[str, None] = dict.fromkeys(order["tags"])
        self._sets: list[str] = []
        self._sent: set[int] = set()
        self._last = 0  # the last epoch that is sent or was uploaded before
        self._skipped = False

    def begin(self) -> str:
        """Opens the run and returns `BEGUN`.

        Where it is not opened, `PRESENT`: it is whole, or a later attempt has taken over. Or `WRITTEN`: it
        only lacked tags.
        """
        if self._offline:  # what `wandb.init` makes of a study that names nobody
            self._entity = self._order["entity"] or wandb.setup().settings.entity or ""
        locks = self._root / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(locks / self._id, timeout=LOCK_S)
        self._lock.acquire()
        word = self._claim() if self._is_latest(locks / f"{self._id}.latest") else PRESENT
        if word != BEGUN:
            self._lock.release()
            return word
        self._run = self._init()
        if not self._offline:
            self._last = max(0, self._run.step - 1)
            self._run.tags = dict.fromkeys([*self._run.tags, *self._tags])
        return word

    def _is_latest(self, path: Path) -> bool:
        # What a killed attempt left behind may get the lock after the attempt that follows it.
        if path.exists() and float(path.read_text()) > self._order["started"]:
            return False
        # In one step: a full disk would leave an empty file, which no later attempt could read.
        fresh = path.with_suffix(".new")
        fresh.write_text(repr(self._order["started"]))
        fresh.replace(path)
        return True

    def _claim(self) -> str:
        """Chooses the run id to write under; returns what `begin` returns."""
        content, epochs = self._order["content"], self._order["epochs"]
        for run_id in _ids(self._order["run_id"]):
            self._id = run_id
            held = self._held_offline() if self._offline else self._held_online()
            lacks_tags = not self._tags.keys() <= set(held.tags)
            # Other studies and profiles may use it, too.
            self._tags |= dict.fromkeys(tag for tag in held.tags if tag != SUPERSEDED)
            if content and held.is_whole(content):
                if not lacks_tags:
                    return PRESENT
                if not self._offline:
                    self._add_tags(self._tags)
                    return WRITTEN
            if not content or continues(held.epochs, epochs):
                break
            if not self._offline:
                self._add_tags([SUPERSEDED])  # its steps cannot be rewritten: all goes under another id
        if self._offline:
            self._last = max(held.epochs, default=0)
            self._delete_folders()
        return BEGUN

    def _folders(self) -> Iterator[tuple[Path, MirroredRun]]:
        """Yields the offline folders of the run, oldest first, and what they hold."""
        for folder in sorted((self._root / "wandb").glob(f"offline-run-????????_??????-{self._id}")):
            yield folder, MirroredRun.of_folder(folder)

    def _is_here(self, run: MirroredRun) -> bool:
        """Returns whether an offline run belongs to the entity and the project of this one."""
        return run.place == (self._entity, self._order["project"])

    def _delete_folders(self) -> None:
        """Deletes what was not uploaded and is written again, also where it was for another project.

        What other studies or profiles have there stays.
        """
        for folder, run in self._folders():
            is_moved = uses(run.tags) <= uses(self._tags)
            if not _is_synced(folder) and (self._is_here(run) or is_moved):
                shutil.rmtree(folder)

    def _held_offline(self) -> MirroredRun:
        """Returns the epochs that `wandb sync` has uploaded, the tags, and whether it was closed."""
        held = MirroredRun()
        for folder, run in self._folders():
            if self._is_here(run):
                held.epochs |= run.epochs if _is_synced(folder) else {}
                held.content, held.finished = run.content, run.finished
                held.tags = (*held.tags, *run.tags)
        return held

    def _held_online(self) -> MirroredRun:
        if not self._order["content"]:
            return MirroredRun()
        try:
            return MirroredRun.of_online(self._online_run())
        except wandb.errors.CommError as error:
            if not isinstance(error.exc, ValueError):  # this is how a missing run is reported
                raise
            return MirroredRun()

    def _add_tags(self, tags: Iterable[str]) -> None:
        run = self._online_run()
        if more := [tag for tag in tags if tag not in run.tags]:
            run.tags = [*run.tags, *more]
            run.update()

    def _online_run(self) -> Any:
        api = wandb.Api()
        entity = self._order["entity"] or api.default_entity
        return api.run(f"{entity}/{self._order['project']}/{self._id}")

    def _init(self) -> Any:
        order = self._order
        return wandb.init(
            dir=self._root,
            id=self._id,
            entity=order["entity"],
            project=order["project"],
            name=order["name"],
            group=order["group"],
            job_type=order["job_type"],
            # Online, those given here would replace the ones that the run has.
            tags=list(self._tags) if self._offline else (),
            notes=order["notes"] or None,
            config=order["config"],
            resume=None if self._offline else "allow",
            allow_val_change=True,
            settings=private_settings(order["mode"]),
        )

    def epoch(self, result: dict[str, Any]) -> None:
        """Logs an epoch under its own number, unless it was uploaded before."""
        if result["epoch"] <= self._last:
            self._skipped = True
            return
        self._last = result["epoch"]
        self._run.log(result, step=self._last)
        self._sent.add(self._last)

    def _log(self, values: dict[str, Any]) -> None:
        # Beside the last epoch, unless that was uploaded by an earlier attempt: steps only grow.
        self._run.log(values, step=self._last if self._last in self._sent else self._last + 1)

    def outputs(self, title: str, rows: list[dict[str, Any]]) -> None:
        """Logs the images of a set with their masks, spread over its rows, within what is left of the number.

        A row without `image` has nothing to show.
        """
        rows = [row for row in rows if "image" in row["arrays"]]
        number = min(len(rows), self._images)
        # Neighbouring rows are alike (stored ones are sorted by pathology): equal strides show most of them.
        images = [image_of(rows[i * len(rows) // number]) for i in range(number)]
        self._images -= number
        if images:
            self._sets.append(title)
            self._log({f"outputs/{title}": images})

    def table(self, name: str, columns: list[str], rows: list[list[Any]]) -> None:
        """Logs a table."""
        self._log({name: wandb.Table(columns=columns, data=rows)})

    def pictures(self, name: str, columns: list[str], rows: list[dict[str, Any]]) -> None:
        """Logs a table whose last column holds images of cases with their masks."""
        data = [[*row["labels"], image_of(row["picture"])] for row in rows]
        self._log({name: wandb.Table(columns=[*columns, "picture"], data=data)})

    def weights(self, made: str, taken: list[str]) -> None:
        """Logs the digests of weights as artifacts, those that the trial took and those that it made.

        W&B draws the lineage of runs from them; the weights themselves stay in the storage.
        """
        for digest in taken:
            # `use_artifact` refuses to work offline; what it calls for an artifact of our own does work.
            self._run._log_artifact(weights_artifact(digest), is_user_created=True, use_after_commit=True)
        self._run.log_artifact(weights_artifact(made))

    def figure(self, name: str, title: str, png: str) -> None:
        """Logs a figure, a PNG in base64."""
        image = wandb.Image(PIL.Image.open(BytesIO(b64decode(png))), caption=title)
        self._log({f"figures/{name}": image})

    def alert(self, title: str, text: str) -> None:
        """Asks W&B to tell its subscribers something, where it is listening; files are read too late."""
        if not self._offline:
            self._run.alert(title[:_LONGEST_TITLE], text, wait_duration=0)

    def end(self, summary: dict[str, Any], outcome: str, content: str) -> None:
        """Closes the run; one that is whole gets its digest.

        Raises:
            StorageError: The offline file lacks epochs that were logged, as on a full disk; or the server did
                not take the whole run.
        """
        # A running trial cannot know the values of uploaded epochs; for a rebuild `_claim` compared them.
        is_known = bool(self._order["content"]) or not self._skipped
        whole = {CONTENT: content} if content and is_known else {}
        self._run.summary.update({**summary, "outcome": outcome, "output_sets": self._sets, **whole})
        self._run.finish(exit_code=0 if outcome == "complete" else 1)
        if self._offline:
            wandb.teardown()  # `finish` may return before the file is closed; the service ends after that
            self._check_file()
        else:
            self._check_arrival()
        self._lock.release()

    def _check_arrival(self) -> None:
        # After some answers (401, no JSON) the service drops what follows, and `finish` says nothing of it.
        run = self._online_run()
        deadline = time.monotonic() + ARRIVAL_S
        while run.state == "running":  # the end is the last that is sent
            if time.monotonic() > deadline:
                raise StorageError("W&B did not take the whole run")
            time.sleep(0.2)
            run.load(force=True)

    def _check_file(self) -> None:
        folders = [(folder, run) for folder, run in self._folders() if self._is_here(run)]
        runs = [run for folder, run in folders if not _is_synced(folder)]
        if len(runs) != 1 or not runs[0].finished or runs[0].epochs.keys() != self._sent:
            free_mib = shutil.disk_usage(self._root).free / 2**20
            raise StorageError(
                f"the offline run in {self._root} lacks some of what was logged ({free_mib:.0f} MiB are free)"
            )


def _ids(first: str) -> Iterator[str]:
    yield first
    yield from (f"{first}-{number}" for number in itertools.count(2))


def _is_synced(folder: Path) -> bool:
    """Returns whether `wandb sync` has uploaded an offline folder."""
    return any(folder.glob("*.wandb.synced"))


if __name__ == "__main__":
    main(float(sys.argv[1]))
