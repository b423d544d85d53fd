"""The command line: verbs, printing, exit codes. Nothing heavy is imported before a verb asks for it."""

from xferlab.cli.main import main

__all__ = ["main"]
