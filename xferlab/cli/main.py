"""The parser, and the one place where errors become exit codes."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence

from xferlab import __version__
from xferlab.cli.output import Streams
from xferlab.errors import ClusterLostError, ProblemsError, StorageLostError, XferlabError, suggest

COMPLETE, INCOMPLETE, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
REQUEUE = os.EX_TEMPFAIL
"""Ended early from outside (SIGTERM, a lost cluster or storage): the same command goes on (75)."""
WORKING = ("run", "tune", "report", "mirror", "predict")
"""Verbs that do more than print: a reader that has stopped does not hold them up."""

VERBS = {
    "check": "validate a study file and read all of its data",
    "plan": "show the trials of a study: names, ids, parents, what is complete and what is shared",
    "run": "run what is not complete yet; running again resumes",
    "status": "show where every trial of a study stands",
    "failures": "show why trials failed: each error once, with its traceback, and what to do",
    "report": "write tables and figures",
    "tune": "search hyperparameters of one stage; running again goes on; writes the winner as an arm",
    "mirror": "rebuild in Weights & Biases what is missing there",
    "predict": "segment images with the weights of a trial or a file",
    "prune": "list, and with --yes delete, what a storage holds and no study's last plan names",
    "schema": "print the JSON Schema of study files, for editors",
}


class _Parser(argparse.ArgumentParser):
    """Suggests the nearest verb on a typo."""

    asked = ""

    def error(self, message: str) -> None:  # type: ignore[override]
        """Prints the message with a suggestion and exits with 2."""
        hint = suggest(self.asked, VERBS) if self.asked not in VERBS else ""
        self.exit(BAD_INPUT, f"{self.prog}: {message}{hint}\nTry `{self.prog} --help`.\n")


def build_parser() -> _Parser:
    """Returns the parser of all verbs."""
    parser = _Parser(prog="xferlab", description="Staged transfer-learning studies on a cluster.")
    parser.add_argument("--version", action="version", version=f"xferlab {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, summary in VERBS.items():
        verb = verbs.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        if name not in ("schema", "predict", "prune"):
            _add_study_options(verb)
        if name in _ADD:
            _ADD[name](verb)
    return parser


def _add_study_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("study", metavar="STUDY", help="the study file")
    verb.add_argument("--profile", metavar="P", help="apply this profile of the study file")
    verb.add_argument(
        "--storage",
        metavar="DIR|URI",
        help="in place of the study's `storage`; starts where the command runs",
    )


def _add_plan(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--json", action="store_true", help="print the plan as JSON")
    verb.add_argument(
        "--cases",
        metavar="FILE",
        help="write a table of all cases: what records call them, who they are, and their parts",
    )
    verb.add_argument("--arms", metavar="A,B", help="only these arms")


def _add_run(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--executor", choices=("ray", "in-process"), default="ray")
    verb.add_argument("--arms", metavar="A,B", help="only these arms")
    verb.add_argument("--address", metavar="A", help="join the Ray cluster at this address")
    verb.add_argument("--workers", metavar="N", type=int, help="CPU cores that Ray may use on this machine")


def _add_status(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--json", action="store_true", help="print the states as JSON")
    verb.add_argument("--stage", metavar="S", help="only the trials of this stage")
    verb.add_argument("--arm", metavar="A", help="only the trials of this arm")
    verb.add_argument("--state", metavar="STATE", help="show only trials in this state, such as `running`")
    verb.add_argument("--watch", action="store_true", help="show changes until all is complete")


def _add_failures(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--json", action="store_true", help="print the failures as JSON")


def _add_report(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--out", metavar="DIR", help="folder of the report; default: ./reports/<study>")


def _add_tune(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--space", metavar="FILE", required=True, help="what may vary: paths and distributions")
    verb.add_argument("--samples", metavar="N", type=int, required=True, help="samples in all, old ones too")
    verb.add_argument("--repeats", metavar="R", type=int, help="repetitions of each; default: at most 3")
    verb.add_argument("--stage", metavar="S", help="the stage to tune; default: the last")
    verb.add_argument("--arm", metavar="A", default="baseline", help="the arm to tune; default: baseline")
    verb.add_argument("--search", choices=("random", "optuna"), default="random")
    verb.add_argument(
        "--asha", action=argparse.BooleanOptionalAction, default=True, help="stop the worse samples early"
    )
    verb.add_argument("--seed", metavar="N", type=int, help="of the search; default: the study's")
    verb.add_argument("--address", metavar="A", help="join the Ray cluster at this address")
    verb.add_argument("--workers", metavar="N", type=int, help="CPU cores that Ray may use on this machine")
    verb.add_argument(
        "--out", metavar="FILE", help="the winner; default: ./search_spaces/tuned/<study>-<stage>.yaml"
    )
    verb.add_argument(
        "--report", metavar="DIR", help="tables and figures; default: ./reports/<study>-tuning-<stage>"
    )


def _add_mirror(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--mode", choices=("online", "offline"), help="in place of the study's")


def _add_predict(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("model", metavar="TRIAL|CHECKPOINT", help="a trial's name or id, or a weights file")
    verb.add_argument("images", metavar="IMAGE", nargs="+", help="images, DICOM files, or folders of them")
    verb.add_argument("--out", metavar="DIR", required=True, help="folder of masks and overlays")
    verb.add_argument("--study", metavar="STUDY", help="the study file that names the trial")
    verb.add_argument("--profile", metavar="P", help="the profile that the study ran with")
    verb.add_argument("--storage", metavar="DIR|URI", default=None, help="where the trial's records are")
    verb.add_argument("--threshold", type=float, default=0.5, help="on the network's output; default 0.5")
    verb.add_argument(
        "--image-size",
        metavar="PX",
        type=int,
        help="for a weights file without its trial's record: side it was trained at",
    )
    verb.add_argument(
        "--intensity",
        choices=("zscore", "unit", "minmax", "equalise"),
        help="for a weights file without its trial's record: normalisation it was trained with",
    )


def _add_prune(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("studies", metavar="STUDY", nargs="*", help="study files whose storages are pruned")
    verb.add_argument("--profile", metavar="P", help="apply this profile of the study files")
    verb.add_argument("--storage", metavar="DIR|URI", help="one storage, in place of the studies'")
    verb.add_argument("--yes", action="store_true", help="delete what is listed")
    verb.add_argument("--names", action="store_true", help="list every file and folder by name")
    verb.add_argument("--searches", action="store_true", help="take searches (`xferlab tune`) as well")


_ADD: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "plan": _add_plan,
    "run": _add_run,
    "status": _add_status,
    "failures": _add_failures,
    "report": _add_report,
    "tune": _add_tune,
    "mirror": _add_mirror,
    "predict": _add_predict,
    "prune": _add_prune,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb. What happens to its output changes nothing of its work.

    A call with arguments leaves the streams and the environment of the process as they were.

    Returns:
        0 all complete, 1 some failed or blocked (or a verb that only prints could not), 2 bad study or usage,
        130 interrupted, 75 ended from outside (SIGTERM, SIGHUP, SIGUSR1, a lost cluster or storage): the same
        command goes on.
    """
    streams, environment = Streams(), dict(os.environ)
    streams.install()
    try:
        code, works = _run(sys.argv[1:] if arguments is None else list(arguments), streams)
    finally:
        arrived = streams.finish()
        if arguments is not None:  # else they stay: what libraries print at exit must not change the code
            streams.remove()
            _restore(environment)
    return INCOMPLETE if code == COMPLETE and not works and not arrived else code


def _restore(environment: Mapping[str, str]) -> None:
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)


def _run(words: list[str], streams: Streams) -> tuple[int, bool]:
    """Returns the exit code of a verb, and whether it does more than print."""
    parser = build_parser()
    parser.asked = next((word for word in words if not word.startswith("-")), "")
    try:
        options = parser.parse_args(words)
    except SystemExit as end:  # it has printed help, the version, or what is wrong
        return int(end.code or COMPLETE), False
    works = options.verb in WORKING or getattr(options, "yes", False)
    return _exit_code(options, begin=streams.unblock if works else lambda: None), works


def _exit_code(options: argparse.Namespace, *, begin: Callable[[], None]) -> int:
    machine = importlib.import_module("xferlab.schedule.machine")
    try:
        machine.prepare()
        begin()
        verb = importlib.import_module(f"xferlab.cli.{options.verb}")
        return int(verb.run(options))
    except ProblemsError as error:
        print(error, file=sys.stderr)
        errors = sum(problem.severity == "error" for problem in error.problems)
        if errors > 1:
            print(f"{errors} problems", file=sys.stderr)
        return BAD_INPUT
    except XferlabError as error:
        print(f"xferlab: {error}", file=sys.stderr)
        return REQUEUE if isinstance(error, ClusterLostError | StorageLostError) else BAD_INPUT
    except KeyboardInterrupt as error:
        print("interrupted", file=sys.stderr)
        return exit_code(getattr(error, "signal", signal.SIGINT))
    except OSError as error:
        if error.errno not in machine.REMEDIES:
            raise
        print(f"xferlab: {error}. {machine.REMEDIES[error.errno]}", file=sys.stderr)
        return BAD_INPUT


def exit_code(number: signal.Signals) -> int:
    """Returns the exit code of a verb that a signal ended: a person's Ctrl-C, or a scheduler's notice."""
    return INTERRUPTED if number == signal.SIGINT else REQUEUE
