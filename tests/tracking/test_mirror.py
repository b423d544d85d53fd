"""The mirror of a running trial: real wandb, offline files read back."""

import logging
import os
import signal
import string
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from tests.tracking.mirror_cases import NAME, PATIENT, PATTERN, arrays, epochs, mirrored, spec, wandb_settings
from tests.tracking.wandb_files import all_bytes, offline_runs
from tests.tracking.wandb_processes import mirror_processes, until
from xferlab.records.logs import LogReader
from xferlab.study.schema import Wandb
from xferlab.tracking import live, pipe
from xferlab.tracking.content import pixel_row
from xferlab.tracking.live import TrialMirror

PATIENCE_S = 30.0


@pytest.mark.component
def test_a_private_trial_reads_back_without_pixels_or_names(tmp_path, monkeypatch, warnings):
    monkeypatch.setenv("WANDB_MODE", "disabled")  # the study decides, not the shell
    monkeypatch.setenv("WANDB_API_KEY", "5ecre7" * 6 + "abcd")
    one = spec()
    mirrored(one, tmp_path, epochs(1, 7), summary={"lungs.test/DICE": 0.75}, images=6)
    (run,) = offline_runs(tmp_path)
    assert (run.run.run_id, run.run.display_name) == (one.trial_id, one.name)
    assert (run.run.run_group, run.run.job_type, run.run.project) == (
        "baseline/general",
        "general",
        "mirror-test",
    )
    assert list(run.run.tags) == ["use:covid", "study:covid", "task:segmentation", "arm:baseline"]
    assert run.run.notes == (
        "Images and the names of cases of lungs are withheld: the study file does not say `shareable: true` "
        "of their sections. Numbers are not withheld."
    )
    assert run.config["withheld"] == ["lungs.validation", "lungs.test"]
    assert [row["step"] for row in run.rows] == run.epochs == list(range(1, 8))
    sent = {key: run.rows[4][key] for key in epochs(5, 5)[0].flat()}
    assert sent == epochs(5, 5)[0].flat()
    assert run.config["parent_runs"] == ["fedcba9876543210"]
    assert run.config["identity.seed"] == str(2**62 + 1)
    assert run.config["identity.training.lr"] == 1e-3
    assert (run.summary["lungs.test/DICE"], run.summary["outcome"], run.exit_code) == (0.75, "complete", 0)
    assert run.run.host == "undisclosed"
    written = all_bytes(tmp_path)
    for secret in (PATIENT.encode(), NAME.encode(), PATTERN, b"5ecre7", b".png"):
        assert secret not in written
    assert warnings() == []


@pytest.mark.component
def test_outputs_of_a_shareable_section_within_their_number(tmp_path):
    mirrored(spec(shareable=True), tmp_path, epochs(1, 2), images=9)
    (run,) = offline_runs(tmp_path)
    assert run.summary["outputs/lungs.validation.count"] == wandb_settings()["images"] == 4
    assert run.summary["output_sets"] == ["lungs.validation"]
    assert run.rows[-1]["step"] == 2
    assert (run.run.notes, run.config["withheld"]) == ("", [])
    assert PATIENT.encode() not in all_bytes(tmp_path)


@pytest.mark.component
def test_each_of_several_structures_has_a_class_of_its_own_in_the_masks():
    from xferlab.tracking.wandb_objects import _mask, image_of

    target = np.array([[0, 255], [127, 255]], np.uint8)
    shown = {"image": target, "target_heart": target, "mask_heart": target, "target_lung": target}
    assert image_of(pixel_row(shown))._masks.keys() == shown.keys() - {"image"}
    masks = {name: _mask(name, target, ["heart", "lung"]) for name in shown if name != "image"}
    assert masks["target_heart"]["mask_data"].tolist() == [[0, 1], [3, 1]]
    assert masks["target_heart"]["class_labels"] == {1: "heart", 3: "ignored"}
    assert masks["mask_heart"]["mask_data"].tolist() == [[0, 1], [0, 1]]
    assert masks["target_lung"]["mask_data"].tolist() == [[0, 2], [3, 2]]
    assert masks["target_lung"]["class_labels"] == {2: "lung", 3: "ignored"}
    assert _mask("probability", target, ["structure"])["class_labels"] == {1: "structure", 2: "ignored"}


@pytest.mark.component
def test_a_task_that_stores_no_image_shows_nothing(tmp_path, warnings):
    mirror = TrialMirror.start(spec(shareable=True), directory=tmp_path)
    mirror.outputs([{}, {"image": np.zeros((2, 2), np.float32)}, {"ages": np.zeros((1, 2), np.uint8)}])
    mirror.finish(summary={}, outcome="complete", timeout_s=60.0)
    (run,) = offline_runs(tmp_path)
    assert not any(key.startswith("outputs") for key in run.summary)
    assert warnings() == []


@pytest.mark.slow
def test_a_resumed_trial_has_every_epoch_once_with_its_last_values(tmp_path):
    one = spec()
    mirrored(one, tmp_path, epochs(1, 5), outcome="interrupted")
    again = replace(epochs(4, 4)[0], train_s=9.0)
    mirrored(one, tmp_path, [*epochs(1, 3), again, *epochs(5, 6)])
    (run,) = offline_runs(tmp_path)
    assert run.epochs == [1, 2, 3, 4, 5, 6]
    assert run.rows[3]["train_s"] == 9.0


@pytest.mark.slow
def test_a_trial_that_follows_a_killed_one_has_every_epoch_once(tmp_path):
    code = (
        "import os, pathlib, sys\n"
        "from tests.tracking.mirror_cases import epochs, spec\n"
        "from xferlab.tracking.live import TrialMirror\n"
        "mirror = TrialMirror.start(spec(), directory=pathlib.Path(sys.argv[1]))\n"
        "for result in epochs(1, 3): mirror.epoch(result)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=os.getcwd(), check=False)
    assert done.returncode == -signal.SIGKILL
    # The next attempt takes over, whichever of both processes is first.
    mirrored(spec(), tmp_path, epochs(1, 4))
    (run,) = offline_runs(tmp_path)
    assert run.epochs == [1, 2, 3, 4]


@pytest.mark.component
def test_a_mirror_that_dies_is_one_warning(tmp_path, warnings):
    mirror = TrialMirror.start(spec(), directory=tmp_path)
    os.kill(mirror._writer._process.pid, signal.SIGKILL)
    mirror._writer._process.wait()
    for result in epochs(1, 50):
        mirror.epoch(result)
    mirror.finish(summary={}, outcome="complete")
    (warning,) = warnings()
    assert "its process was ended by SIGKILL" in warning
    assert "`xferlab mirror STUDY` completes it later" in warning


@pytest.mark.slow
def test_a_mirror_that_hangs_delays_no_longer_than_said(tmp_path, warnings):
    mirror = TrialMirror.start(spec(shareable=True), directory=tmp_path)
    process = mirror._writer._process
    os.kill(process.pid, signal.SIGSTOP)
    started = time.monotonic()
    for result in epochs(1, 2000):  # more than the pipe holds
        mirror.epoch(result)
    mirror.outputs(arrays(64))
    mirror.finish(summary={}, outcome="complete", timeout_s=0.2)
    assert time.monotonic() - started < 5
    # It goes on without the trial, and nothing is lost.
    os.kill(process.pid, signal.SIGCONT)
    until(lambda: not live._behind)
    assert offline_runs(tmp_path)[0].epochs == list(range(1, 2001))
    assert warnings() == []


@pytest.mark.component
@pytest.mark.parametrize("blocked", ["file", "message"])
def test_what_cannot_be_mirrored_is_one_warning(tmp_path, blocked, warnings):
    place = tmp_path / "taken"
    place.write_text("a file where a folder should be")
    mirror = TrialMirror.start(spec(), directory=place if blocked == "file" else tmp_path)
    mirror.outputs([{"image": object()}])
    mirror.finish(summary={"unknown": object()}, outcome="complete", timeout_s=PATIENCE_S)
    assert len(warnings()) == 1


@pytest.mark.component
def test_without_a_key_online_is_one_warning(empty, tmp_path, monkeypatch, warnings):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    trial = spec(mode="online")
    mirrored(trial, tmp_path, epochs(1, 3), store=empty)
    (warning,) = warnings()
    assert "No API key configured" in warning
    log = LogReader(empty, trial.trial_id)
    until(lambda: len(lines := log.new_lines()) == 1 and is_traceback(lines[0]))


def is_traceback(line):
    """Whether a line of a log is what the process printed that has no key."""
    return line.source == "W&B" and "Traceback" in line.text and "No API key configured" in line.text


@pytest.mark.component
def test_each_trial_hears_what_the_shared_process_printed_while_it_ran(empty, tmp_path):
    for seed, text in ((1, b"first\n"), (2, b""), (3, b"third\nline\n")):
        mirror = TrialMirror.start(spec(seed=seed), directory=tmp_path, store=empty)
        os.write(mirror._writer._errors.fileno(), text)
        finish(mirror)
        log = LogReader(empty, spec(seed=seed).trial_id).new_lines()
        assert [(line.source, line.text) for line in log] == [("W&B", text.decode().strip())][: bool(text)]


def begin(directory, seed):
    """Begins the mirror of a trial; returns it with the process that writes it."""
    mirror = TrialMirror.start(spec(seed=seed), directory=directory)
    return mirror, mirror._writer._process


def finish(mirror, *, timeout_s=PATIENCE_S):
    for result in epochs(1, 3):
        mirror.epoch(result)
    mirror.finish(summary={}, outcome="complete", timeout_s=timeout_s)


@pytest.mark.component
def test_trials_one_after_the_other_share_a_process_as_long_as_it_lives(tmp_path, warnings):
    processes = []
    for seed in (1, 2, 3):
        mirror, process = begin(tmp_path, seed)
        finish(mirror)
        processes.append(process)
        if seed == 2:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
    first, second, third = processes
    assert first is second
    assert third is not second
    assert [run.epochs for run in offline_runs(tmp_path)] == [[1, 2, 3]] * 3
    assert warnings() == []


@pytest.mark.component
def test_a_process_that_was_behind_is_taken_when_it_is_free(tmp_path, warnings):
    late, stopped = begin(tmp_path, 1)
    os.kill(stopped.pid, signal.SIGSTOP)
    finish(late, timeout_s=0.0)
    quick, beside = begin(tmp_path, 2)
    os.kill(stopped.pid, signal.SIGCONT)
    until(lambda: not live._behind)
    third, process = begin(tmp_path, 3)
    assert process is stopped
    finish(third)
    finish(quick)
    assert beside.poll() is None  # it is kept, in place of the other, which ends
    assert stopped.wait(PATIENCE_S) == 0
    assert [run.epochs for run in offline_runs(tmp_path)] == [[1, 2, 3]] * 3
    assert warnings() == []


@pytest.mark.component
def test_a_free_process_ends_with_its_trials(tmp_path):
    code = (
        "import os, pathlib, sys\n"
        "from tests.tracking.mirror_cases import epochs, mirrored, spec\n"
        "mirrored(spec(), pathlib.Path(sys.argv[1]), epochs(1, 2))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path], check=False).returncode == -signal.SIGKILL
    assert offline_runs(tmp_path)[0].epochs == [1, 2]
    until(lambda: not mirror_processes(tmp_path))


@pytest.mark.component
def test_another_key_takes_another_process(tmp_path, monkeypatch):
    mirror, process = begin(tmp_path, 1)
    finish(mirror)
    monkeypatch.setenv("WANDB_API_KEY", "5ecre7" * 6 + "abcd")
    mirror, other = begin(tmp_path, 2)
    assert other is not process
    assert process.wait(PATIENCE_S) == 0
    finish(mirror)


@pytest.mark.slow
def test_a_mirror_that_stays_stopped_is_killed(tmp_path, monkeypatch, warnings):
    monkeypatch.setattr(pipe, "LINGER_S", 0.5)
    mirror = TrialMirror.start(spec(), directory=tmp_path)
    process = mirror._writer._process
    os.kill(process.pid, signal.SIGSTOP)
    mirror.finish(summary={}, outcome="complete", timeout_s=0.0)
    assert warnings() == []
    (warning,) = until(lambda: warnings())
    assert "W&B had not taken the whole run 0.5 s later" in warning
    assert process.wait(PATIENCE_S) == -signal.SIGKILL


@pytest.mark.parametrize("mode", [None, "disabled"])
def test_without_a_mirror_nothing_starts(tmp_path, mode, caplog):
    caplog.set_level(logging.DEBUG)
    mirrored(spec(mode=mode), tmp_path / "absent", epochs(1, 3), images=6)
    assert not (tmp_path / "absent").exists()
    assert caplog.records == []


@pytest.mark.component
def test_a_study_accepts_the_names_that_wandb_accepts_and_no_others():
    import wandb

    def accepts(make, error):
        try:
            make()
        except error:
            return False
        return True

    for name in (*(f"a{character}b" for character in string.printable.strip()), "x" * 128, "x" * 129):
        theirs = accepts(lambda: wandb.Settings(project=name), wandb.errors.UsageError)  # noqa: B023
        assert accepts(lambda: Wandb(project=name), ValidationError) == theirs, name  # noqa: B023


@pytest.mark.component
def test_the_trial_itself_never_imports_wandb():
    code = "import sys, xferlab.tracking; sys.exit('wandb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
