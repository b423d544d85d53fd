"""Names of patients and images in the records of sections that are not shareable."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import replace

from xferlab.cohort.case import Case


class Pseudonyms:
    """Names that anybody with the images can compute, and nobody can trace with the records alone.

    A patient becomes `p-` and 16 hex digits of HMAC-SHA256 of the patient id. The key is the smallest
    SHA-256 of the patient's image files. Records hold the digests of cases, so these could not be the key.
    Without the images, a list of names finds nobody. There is no key to lose, and a pseudonym is the same in
    all parts, repetitions, arms and storages. An image becomes `case-` and 12 hex digits of the HMAC of the
    SHA-256 of its file under the same key: it has one name however its grey levels and masks are read.
    """

    def __init__(self, private: Iterable[Case]):
        """Takes all cases of the study's own sections that are not shareable; keys come from their images.

        Others may know the images of shareable sections, so these cannot be keys.
        """
        self._keys = _smallest_images(private)

    def hide(self, section: Iterable[Case]) -> dict[str, Case]:
        """Returns the cases of one section under their pseudonyms, by digest.

        Patients that only an arm adds get their key from this section.
        """
        cases = list(section)
        keys = {**_smallest_images(cases), **self._keys}
        names = {patient: _pseudonym(patient, keys[patient]) for patient in {case.patient for case in cases}}
        return {
            case.digest: replace(
                case,
                name="case-" + _hmac(keys[case.patient], case.image_sha256 or case.name)[:12],
                patient=names[case.patient],
                image_sha256="",
                columns={},
            )
            for case in cases
        }


def _smallest_images(cases: Iterable[Case]) -> Mapping[str, str]:
    """Patient -> smallest digest of an image file; a phantom, which has no file, gives its own digest."""
    smallest: dict[str, str] = {}
    for case in cases:
        image = case.image_sha256 or case.digest
        smallest[case.patient] = min(image, smallest.get(case.patient, image))
    return smallest


def _pseudonym(patient: str, key: str) -> str:
    return "p-" + _hmac(key, patient)[:16]


def _hmac(key: str, text: str) -> str:
    return hmac.digest(key.encode(), text.encode(), "sha256").hex()
