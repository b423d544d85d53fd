"""Implausible data: any number of findings takes time in proportion."""

from __future__ import annotations

import time

from xferlab.cohort import Case
from xferlab.data.plausibility import Observation, implausible


def observation(number: int, *, share: float, image: str) -> Observation:
    return Observation(
        Case(f"{number:064x}", f"{number}.png", f"p{number}", "normal"),
        image=image,
        mask=f"mask of {image}",
        shape=(40, 30),
        spacing_mm=None,
        levels=256,
        share=share,
        seems_inverted=share > 0.5,
        values=frozenset({255}),
        has_remark=False,
    )


def test_thousands_of_inverted_masks_and_repeated_images_are_found_soon() -> None:
    inverted = [observation(n, share=0.9, image=f"image {n}") for n in range(4000)]
    repeated = [observation(n, share=0.3, image=f"image {n // 2}") for n in range(10_000, 18_000)]
    twice = observation(20_000, share=0.3, image="a"), observation(20_001, share=0.3, image="a")
    for entry, mask in zip(twice, ("left", "right"), strict=True):
        object.__setattr__(entry, "mask", mask)
    start_s = time.process_time()
    problems = implausible("s", [*inverted, *repeated, *twice], empty_targets=False)
    assert time.process_time() - start_s < 1
    assert [problem.kind for problem in problems] == [
        "images with several masks",
        "repeated images",
        *["masks that seem inverted"] * 4000,
    ]
    assert problems[0].what.startswith("one image has different masks (20000.png, 20001.png)")
    assert problems[1].what.startswith("4000 images stand in the table twice")
