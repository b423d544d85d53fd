"""Names of masks that somebody describes by a pattern, where they have too little in common."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path

from xferlab.data.formats import without_suffix
from xferlab.errors import DataError, Problem, UsageError, composed

NAME = "{name}"
"""What stands for the name of the image in a pattern that is no regular expression."""


class MaskPattern:
    """How masks are named.

    Attributes:
        text: As it was given.
    """

    def __init__(self, text: str):
        """Takes `{name}_seg.png`, or a regular expression whose group `name`, else the first, is the name.

        Raises:
            UsageError: It is no regular expression, or has no group.
        """
        self.text, self._is_template = text, NAME in text
        try:
            self._expression = re.compile(composed(_as_expression(text) if self._is_template else text))
        except re.error as error:
            raise UsageError(f"--mask {text!r} is no regular expression: {error}") from error
        if not self._expression.groups:
            raise UsageError(
                f"--mask {text!r} does not say where the name of the image is: write {NAME} there, such as "
                f"'{NAME}_seg.png', or a regular expression with a group, such as '(.+)_v[0-9]+'"
            )

    def name_in(self, path: str) -> str | None:
        """Returns the name of an image in the path of a mask below its folder; None where it does not fit.

        The name is in Unicode's NFC. The ending may be missing in a pattern with `{name}`, which has to fit
        the whole path.
        """
        path = composed(path)
        if not self._is_template:
            match = self._expression.search(path)
            return match and (match["name"] if "name" in self._expression.groupindex else match[1])
        fits = self._expression.fullmatch
        match = fits(without_suffix(path)) or fits(path)
        return match and f"{match['folder']}{match['name']}"


def _as_expression(template: str) -> str:
    """Returns the regular expression of a template; where the name stands again, it is the same one."""
    first, *others = map(re.escape, template.split(NAME))
    return f"(?P<folder>(?:.*/)?){first}(?P<name>[^/]+){'(?P=name)'.join(others)}"


def read_names(pattern: MaskPattern, folder: Path, masks: Mapping[str, Path]) -> dict[str, str]:
    """Returns what the pattern finds in the names of masks: the mask's own name -> that of its image."""
    found = {mask: pattern.name_in(path.relative_to(folder).as_posix()) for mask, path in masks.items()}
    return {mask: name for mask, name in found.items() if name}


def joined_by_pattern(
    pattern: MaskPattern, folder: Path, found: Mapping[str, str], images: Collection[str]
) -> dict[str, str]:
    """Returns the name of the mask of each image that has one.

    Args:
        pattern: For messages.
        folder: Of the masks, for messages.
        found: Mask -> the image that its name says: its path below the folder of images without the ending,
            or the last part of this path, if no other image has it.
        images: Names of all images, as paths.

    Raises:
        DataError: No mask has an image, or two have the same one.
    """
    last: defaultdict[str, list[str]] = defaultdict(list)
    for image in images:
        last[image.rpartition("/")[2]].append(image)
    joined: defaultdict[str, list[str]] = defaultdict(list)
    for mask, name in found.items():
        named = [name] if name in images else last.get(name, [])
        if len(named) == 1:
            joined[named[0]].append(mask)
    if not joined:
        shown = ", ".join(f"{name!r} in {mask!r}" for mask, name in sorted(found.items())[:2])
        raise DataError.at(
            folder,
            f"--mask {pattern.text!r} joins no mask with an image. It finds {shown or 'no name'}; images are "
            f"called {', '.join(map(repr, sorted(images)[:2]))}.",
        )
    doubled = [
        Problem(str(folder / mask), f"is a mask of {image}, as {first} is; make --mask fit one of them.")
        for image, (first, *others) in joined.items()
        for mask in others
    ]
    if doubled:
        raise DataError(doubled)
    return {image: mask for image, (mask,) in joined.items()}
