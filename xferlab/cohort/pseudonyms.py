"""What records call patients and images of sections that are not shareable."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import replace

from xferlab.cohort.case import Case


class Pseudonyms:
    """Names that who has the images can compute, and who has records alone cannot trace.

    A patient becomes `p-` and 16 hex digits of HMAC-SHA256 of the patient id. The key is the smallest
    SHA-256 of the patient's image files; a digest of a case would be none, since records hold it. So a list
    of names finds nobody without the images, there is no key to lose, and a pseudonym is the same in all
    parts, repetitions, arms and storages. An image becomes `case-` and 12 hex digits of its digest.
    """

    def __init__(self, private: Iterable[Case]):
        """Takes all cases of the study's own sections that are not shareable: they choose the keys.

        Images of shareable sections may be known to others, and give no key.
        """
        self._keys = _smallest_images(private)

    def hide(self, section: Iterable[Case]) -> dict[str, Case]:
        """Returns the cases of one section under their pseudonyms, by digest.

        Patients that only an arm adds get their key from this section.
        """
        cases = list(section)
        keys = {**_smallest_images(cases), **self._keys}
        names = {patient: _pseudonym(patient, keys[patient]) for patient in {one.patient for one in cases}}
        return {
            case.digest: replace(
                case, name=f"case-{case.digest[:12]}", patient=names[case.patient], image_sha256=""
            )
            for case in cases
        }


def _smallest_images(cases: Iterable[Case]) -> Mapping[str, str]:
    """Patient -> smallest digest of an image file; what has no file (a phantom) is nobody's image."""
    smallest: dict[str, str] = {}
    for case in cases:
        image = case.image_sha256 or case.digest
        smallest[case.patient] = min(image, smallest.get(case.patient, image))
    return smallest


def _pseudonym(patient: str, key: str) -> str:
    return "p-" + hmac.digest(key.encode(), patient.encode(), "sha256").hex()[:16]
