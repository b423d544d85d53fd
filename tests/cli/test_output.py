"""Standard output and error: whatever becomes of them, nothing raises and the work is done."""

from __future__ import annotations

import copy
import io
import logging
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

import pytest
from rich.console import Console
from rich.live import Live

from tests.conftest import Command
from tests.studies import ONE_TRIAL, command, environment, write_study
from xferlab.cli import main, output
from xferlab.cli.output import Output, Streams


class Pipe:
    """A pipe whose reading end a test holds."""

    def __init__(self, encoding: str = "utf-8") -> None:
        reader, writer = os.pipe()
        self.reader = os.fdopen(reader, "rb", buffering=0)
        self.writer: TextIO = os.fdopen(writer, "w", encoding=encoding)

    def read(self, size: int = 100) -> bytes:
        return self.reader.read(size) or b""

    def fill(self) -> int:
        """Fills it, as a reader that has stopped does; returns how many bytes it holds."""
        os.set_blocking(self.writer.fileno(), False)
        size = 0
        with suppress(BlockingIOError):
            while True:
                size += os.write(self.writer.fileno(), b"." * 4096)
        os.set_blocking(self.writer.fileno(), True)
        return size


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.reader.close()
    made.writer.close()


@contextmanager
def guarded(out: TextIO) -> Iterator[Streams]:
    """Guarded streams in place of pytest's: a given standard output; standard error is kept."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = out, io.StringIO()
    try:
        streams = Streams()
        streams.install()
        yield streams
    finally:
        sys.stdout, sys.stderr = before


def kept(streams: Streams) -> str:
    return str(streams.err._stream.getvalue())


def test_lines_arrive_at_once_and_in_order(pipe: Pipe) -> None:
    with guarded(pipe.writer) as streams:
        print("before")
        streams.unblock()
        print("after")
        assert pipe.read() == b"before\nafter\n"
        print("no line", end="")
        assert streams.finish()
        assert pipe.read() == b"no line"
        assert kept(streams) == ""


@pytest.mark.parametrize("works", [True, False])
def test_whatever_prints_survives_a_reader_that_goes_away(pipe: Pipe, works: bool) -> None:
    with guarded(pipe.writer) as streams:
        if works:
            streams.unblock()
        pipe.reader.close()
        print("lost", flush=True)
        print("lost again")
        Console().print("lost")
        with Live("lost", console=Console(force_terminal=True)):
            pass
        logging.StreamHandler(sys.stdout).handle(logging.makeLogRecord({"msg": "lost"}))
        assert streams.finish()  # who leaves has read enough
        lost = (
            "standard output cannot be written (Broken pipe); the work continues, and what is printed there "
        )
        assert kept(streams) == (f"xferlab: {lost}is lost\n" if works else "")


def test_a_disk_that_has_room_again_gets_the_later_lines(pipe: Pipe) -> None:
    stream = Output(pipe.writer, "standard output")
    with open("/dev/full", "w") as full:
        sink, stream._sink = stream._sink, Output(full, "full")._sink
        stream.write("one\ntwo\n")
    stream._sink = sink
    stream.write("three\n")
    assert pipe.read() == b"[2 lines could not be printed here]\nthree\n"


def test_a_reader_that_stops_holds_nothing_up(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    with guarded(pipe.writer) as streams:
        monkeypatch.setattr(output, "WAIT_S", 0.05)
        monkeypatch.setattr(output, "LINGER_S", 0.05)
        held = pipe.fill()
        streams.unblock()
        began = time.monotonic()
        for number in range(2000):
            print(f"{number:0500}")
        assert time.monotonic() - began < 0.5  # one wait, not two thousand
        dropped = streams.out._num_lost
        assert 2000 * 501 - dropped * 501 <= output.BACKLOG + 501
        streams.finish()
        assert kept(streams) == (
            "xferlab: 2000 lines were not printed: standard output is read too slowly or not at all\n"
        )
        # It reads again: what waited comes, and how much is missing.
        missing = held + (2000 - dropped) * 501
        while missing:
            missing -= len(pipe.read(missing))


def test_who_reads_again_is_told_what_is_missing(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    with guarded(pipe.writer) as streams:
        monkeypatch.setattr(output, "WAIT_S", 0.05)
        monkeypatch.setattr(output, "BACKLOG", 0)
        held = pipe.fill()
        streams.unblock()
        for number in range(10):
            print(number)
        text = b""
        while len(text) < held + 2:
            text += pipe.read(held)
        with streams.out._changed:
            assert streams.out._changed.wait_for(lambda: not streams.out._waiting, 5.0)
        monkeypatch.undo()
        print("ten")
        assert text[held:] + pipe.read() == b"0\n[9 lines could not be printed here]\nten\n"


@pytest.mark.parametrize("blocking", [True, False])  # another process may have made it non-blocking
def test_a_verb_that_only_prints_waits_for_its_reader(pipe: Pipe, blocking: bool) -> None:
    with guarded(pipe.writer) as streams:
        held = pipe.fill()
        os.set_blocking(pipe.writer.fileno(), blocking)
        reader = subprocess.Popen(["wc", "-c"], stdin=pipe.reader, stdout=subprocess.PIPE)
        print("x" * 300_000)
        assert streams.finish()
        pipe.writer.close()
        pipe.reader.close()
        assert int(reader.communicate()[0]) == held + 300_001


def test_what_a_notebook_shows_stays_in_it(pipe: Pipe) -> None:
    notebook = io.StringIO()
    notebook.fileno = pipe.writer.fileno  # type: ignore[method-assign]  # that of the notebook's server
    Output(notebook, "standard output").write("shown\n")
    assert notebook.getvalue() == "shown\n"
    assert not select.select([pipe.reader], [], [], 0)[0]


def test_an_unbuffered_stream_is_written_by_its_descriptor() -> None:
    with open("/dev/full", "wb", buffering=0) as raw:
        text = io.TextIOWrapper(raw, write_through=True)  # as of `python -u`
        stream = Output(text, "standard output")
        stream.write("lost\n")
        assert "No space left" in str(stream.error)
        text.flush()  # nothing is left in it


def test_without_a_thread_printing_waits_for_its_reader(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    with guarded(pipe.writer) as streams:
        monkeypatch.setattr(threading.Thread, "start", no_thread)
        streams.unblock()
        print("shown")
        assert streams.finish()
        assert pipe.read() == b"shown\n"


def no_thread(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


@pytest.mark.component
def test_a_machine_without_processes_is_refused(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = write_study(tmp_path, **ONE_TRIAL)
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    said = command("run", study, code=2)
    assert "processes and threads are needed" in said.err


def test_a_forked_process_prints_while_its_parent_does(pipe: Pipe) -> None:
    stream = Output(pipe.writer, "standard output")
    stream.unblock()
    stream._queue.append(b"the parent's\n")
    with ThreadPoolExecutor(1) as another:  # which prints, and holds the lock
        lock = stream._changed
        another.submit(lock.acquire).result()
        child = os.fork()
        if child == 0:
            signal.alarm(10)  # kills it if it waits for the lock
            stream.write("of the child\n")
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        another.submit(lock.release).result()
    assert pipe.read(12) == b"of the child"


def test_a_copy_has_no_endless_recursion(pipe: Pipe) -> None:
    stream = Output(pipe.writer, "standard output")
    with pytest.raises(AttributeError, match="_absent"):
        stream._absent  # noqa: B018
    copy.copy(stream)


def test_what_an_encoding_cannot_spell_is_printed_as_numbers() -> None:
    pipe = Pipe("ascii")
    stream = Output(pipe.writer, "standard output")
    assert (stream.encoding, stream.errors) == ("ascii", "backslashreplace")
    stream.writelines(["Müller ", "\udcff\n"])
    assert pipe.read() == b"M\\xfcller \\udcff\n"
    pipe.reader.close()
    pipe.writer.close()


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["run", "--help"]])
def test_help_that_does_not_arrive_is_told(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(words) == 1
    assert capfd.readouterr().err == "xferlab: standard output cannot be written: No space left on device\n"


@pytest.mark.component
def test_a_call_from_python_leaves_the_environment_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPLBACKEND", "notebook's own")
    monkeypatch.setenv("TMPDIR", "/nowhere")
    monkeypatch.setattr(tempfile, "tempdir", None)
    before = dict(os.environ)
    assert main(["schema"]) == 0
    assert os.environ == before
    monkeypatch.delenv("MPLBACKEND")
    assert main(["check", str(tmp_path / "absent.yaml")]) == 2
    assert "MPLBACKEND" not in os.environ


@pytest.mark.slow
@pytest.mark.parametrize(
    ("redirected", "code", "err"),
    [
        ("| head -n 1", 0, ""),
        (">&-", 0, ""),
        (">&- 2>&- <&-", 0, ""),
        ("> /dev/full", 1, "xferlab: standard output cannot be written: No space left on device\n"),
        ("> /dev/full 2>&1", 1, ""),
    ],
)
def test_a_shell_gets_the_exit_code_and_no_traceback(redirected: str, code: int, err: str) -> None:
    words = f"{sys.executable} -m xferlab schema {redirected}"
    run = subprocess.run(["bash", "-c", f"set -o pipefail; {words}"], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (code, err)


@pytest.mark.slow
@pytest.mark.parametrize("redirected", ["| head -n 1", "> /dev/full 2>&1", ">&- 2>&-"])
@pytest.mark.parametrize("executor", ["ray", "in-process"])
def test_no_output_decides_a_run(tmp_path: Path, redirected: str, executor: str) -> None:
    study = write_study(tmp_path, **ONE_TRIAL)
    words = " ".join(command("run", study, "--storage", tmp_path / "st", "--executor", executor))
    run = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {words} {redirected}"], env=environment(tmp_path), cwd=tmp_path,
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr
    assert len(list((tmp_path / "st").glob("trials/*/record.json"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["ray", "in-process"])
def test_a_stopped_reader_does_not_hold_up_a_run(tmp_path: Path, pipe: Pipe, executor: str) -> None:
    study = write_study(tmp_path, **ONE_TRIAL)
    pipe.fill()
    words = command("run", study, "--storage", tmp_path / "st", "--executor", executor)
    with subprocess.Popen(
        words, env=environment(tmp_path), cwd=tmp_path, stdout=pipe.writer, stderr=subprocess.PIPE, text=True
    ) as process:
        _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert err.splitlines()[-1].endswith(
        "lines were not printed: standard output is read too slowly or not at all"
    )
    assert len(list((tmp_path / "st").glob("trials/*/record.json"))) == 1
