"""What may leave of the data of a study and of its arms, as its plan document tells it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from xferlab.cohort import single_sections


def sharing_of(plan: Mapping[str, Any], arm: str) -> Mapping[str, bool]:
    """Returns whether images and names of each section may leave, as an arm has it.

    Only a plain `shareable: true` counts. An arm may put other data under the name of a section of the study.
    """
    shareable: Mapping[str, bool] = plan["arms"][arm]["shareable"]
    return shareable


def may_leave(plan: Mapping[str, Any], section: str, arms: Iterable[str]) -> bool:
    """Returns whether images and names of a section or set may leave: of all its sections in all arms."""
    each, names = [sharing_of(plan, arm) for arm in arms], single_sections(section)
    return bool(each) and all(shared.get(name) is True for shared in each for name in names)


def sections_of(plan: Mapping[str, Any]) -> dict[str, bool]:
    """Returns whether images and names may leave, of the study's sections and of those that only arms have.

    One that an arm has otherwise than the study stands there as `name@arm`, too.
    """
    sections = {name: data.get("shareable") is True for name, data in plan["data"].items()}
    for arm in plan["arms"]:
        # Files hold names in the order of the alphabet.
        for name, shared in sorted(
            sharing_of(plan, arm).items(), key=lambda each: each[0] not in plan["data"]
        ):
            if name not in plan["data"]:
                sections[name] = shared and sections.get(name, True)
            elif shared != sections[name]:
                sections[f"{name}@{arm}"] = shared
    return sections
