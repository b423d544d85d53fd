"""Read when a Python process starts that has this folder in PYTHONPATH: it then knows the tests' tasks."""

from pathlib import Path

from xferlab import tasks

tasks.__path__ = [*tasks.__path__, str(Path(__file__).parents[1])]
