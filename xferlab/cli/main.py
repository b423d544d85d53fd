"""The parser, and the one place where errors become exit codes."""

from __future__ import annotations

import argparse
import gc
import importlib
import keyword
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict

from xferlab import __version__
from xferlab.cli.options import VERBS, Options
from xferlab.cli.output import Streams, tell
from xferlab.errors import ClusterLostError, ProblemsError, StorageLostError, XferlabError, suggest

COMPLETE, INCOMPLETE, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
REQUEUE = os.EX_TEMPFAIL
"""Ended early from outside (SIGTERM, a lost cluster or storage): the same command continues (75)."""
WORKING = (
    *("run", "cancel", "prefetch", "tune", "report", "archive", "mirror", "dashboard", "predict"),
    *("export", "init", "import"),
)
"""Verbs that do more than print: they do not wait for a reader that has stopped."""
TRAINING = ("run", "tune", "predict", "export")
"""Verbs that may hold large tensors, so that they look for garbage as often as Python does."""


class _Parser(argparse.ArgumentParser):
    """Suggests the nearest verb on a typo."""

    asked = ""

    def error(self, message: str) -> None:  # type: ignore[override]
        """Prints the message with a suggestion and exits with 2."""
        hint = suggest(self.asked, VERBS) if self.asked not in VERBS else ""
        tell(error=f"{message}{hint}")
        self.exit(BAD_INPUT, f"{self.prog}: {message}{hint}\nTry `{self.prog} --help`.\n")


def build_parser() -> _Parser:
    """Returns the parser of all verbs."""
    parser = _Parser(
        prog="xferlab", description="Staged transfer-learning studies on a cluster.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"xferlab {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, (options, summary) in VERBS.items():
        options.add_to(
            verbs.add_parser(
                name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", allow_abbrev=False
            )
        )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb. What becomes of its output does not change its work.

    A call with arguments leaves the streams and the environment of the process as they were.

    Returns:
        0 all complete, 1 some failed or blocked (or a verb that only prints could not), 2 bad study or usage,
        130 interrupted, 75 ended from outside (SIGTERM, SIGHUP, SIGUSR1, a lost cluster or storage): the same
        command continues.
    """
    if arguments is None and "_ARGCOMPLETE" in os.environ:  # a shell wants the words that may follow
        import argcomplete  # optional

        argcomplete.autocomplete(build_parser())  # ends the process
    streams, environment, thresholds = Streams(), dict(os.environ), gc.get_threshold()
    streams.install()
    try:
        code, works = _told(sys.argv[1:] if arguments is None else arguments, streams, arguments is not None)
    finally:
        arrived = streams.finish()
        if arguments is not None:  # else they stay: what libraries print at exit must not change the code
            streams.remove()
            gc.set_threshold(*thresholds)
            for name in os.environ.keys() - environment.keys():
                del os.environ[name]
            os.environ.update(environment)
        else:
            gc.freeze()  # the process ends: a last look for garbage takes half a second
    return INCOMPLETE if code == COMPLETE and not works and not arrived else code


def _told(words: Sequence[str], streams: Streams, raises: bool) -> tuple[int, bool]:
    """Runs a verb, and prints the document of what it told if one is asked for; results as of `_run`."""
    if "--json" in words:
        streams.document()
    try:
        code, works = _run(words, streams)
    except Exception as error:
        if raises:
            raise
        traceback.print_exc()  # Python itself would do so after the streams have ended
        tell(error=f"{type(error).__name__}: {error}")
        code, works = INCOMPLETE, True
    streams.end_document(code)
    return code, works


def _run(words: Sequence[str], streams: Streams) -> tuple[int, bool]:
    """Returns the exit code of a verb, and whether it does more than print."""
    parser = build_parser()
    parser.asked = next((word for word in words if not word.startswith("-")), "")
    try:
        parsed = parser.parse_args(words)
    except SystemExit as end:  # it has printed help, the version, or what is wrong
        if "--version" in words and not end.code:
            tell(version=__version__)
        return int(end.code or COMPLETE), False
    works = parsed.verb in WORKING or getattr(parsed, "yes", False)
    options = VERBS[parsed.verb][0].of(parsed)
    return _exit_code(parsed.verb, options, begin=streams.unblock if works else lambda: None), works


def _exit_code(verb: str, options: Options, *, begin: Callable[[], None]) -> int:
    machine = importlib.import_module("xferlab.schedule.machine")
    try:
        options.check_paths()
        machine.prepare()
        if verb not in TRAINING:
            # Each look for garbage among all that is imported takes a twentieth of a second.
            gc.set_threshold(20_000, 50, 100)
        begin()
        module = f"{verb}_" if keyword.iskeyword(verb) else verb
        return int(importlib.import_module(f"xferlab.cli.{module}").run(options))
    except ProblemsError as error:
        print(error, file=sys.stderr)
        errors = sum(problem.severity == "error" for problem in error.problems)
        if errors > 1:
            print(f"{errors} problems", file=sys.stderr)
        tell(error=str(error), problems=list(map(asdict, error.problems)))
        return BAD_INPUT
    except XferlabError as error:
        return _failed(
            str(error), REQUEUE if isinstance(error, ClusterLostError | StorageLostError) else BAD_INPUT
        )
    except KeyboardInterrupt as error:
        print("interrupted", file=sys.stderr)
        tell(error="interrupted")
        return exit_code(getattr(error, "signal", signal.SIGINT))
    except OSError as error:
        if error.errno not in machine.REMEDIES:
            raise
        return _failed(f"{error}. {machine.REMEDIES[error.errno]}", BAD_INPUT)


def _failed(error: str, code: int) -> int:
    print(f"xferlab: {error}", file=sys.stderr)
    tell(error=error)
    return code


def exit_code(number: signal.Signals) -> int:
    """Returns the exit code of a verb that a signal ended: a person's Ctrl-C, or a scheduler's notice."""
    return INTERRUPTED if number == signal.SIGINT else REQUEUE
