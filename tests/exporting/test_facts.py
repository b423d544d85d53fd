"""What a model card says of its data, also where a section does not say what its images are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from xferlab.exporting.card import _header
from xferlab.exporting.facts import Facts, SectionFacts


def facts(*contents: str) -> Facts:
    sections = tuple(
        SectionFacts(f"s{number}", "manifest", what, 1, 1, is_trained_on=True, is_measured_on=False)
        for number, what in enumerate(contents)
    )
    return Facts(
        study="s", arm="a", stage="g", repetition=1, trial_id="0" * 16, task="t", network="unet",
        parameters=1, starts_from="", patients=1, images=1, validation_images=1, sections=sections,
        results=(), notes=(), weights_sha256="", licence="", others={},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("contents", "title", "modality"),
    [
        (("chest X-rays",), "chest X-rays", "chest X-rays"),
        (("", "brain MRI"), "brain MRI", "brain MRI"),
        (("", ""), "images of a study", "unknown"),
    ],
)
def test_sections_that_do_not_say_what_they_are_leave_no_gap(contents, title, modality) -> None:
    card = facts(*contents)
    assert card.title == f"unet for t, trained on {title} (s a/g/r01)."
    assert card.modality == modality


@pytest.mark.parametrize(
    ("trained", "measured", "inherited", "use"),
    [
        (True, True, False, "trained and measured on"),
        (True, False, True, "trained on"),
        (False, True, True, "measured on; trained on in an earlier stage"),
        (False, False, True, "trained on in an earlier stage"),
    ],
)
def test_data_that_the_network_starts_from_have_a_use(trained, measured, inherited, use) -> None:
    assert SectionFacts("s", "manifest", "", 1, 1, trained, measured, inherited).use == use


@pytest.mark.parametrize(
    ("licence", "fields"),
    [
        ("", {"license": "unknown"}),
        ("CC-BY-NC-4.0", {"license": "cc-by-nc-4.0"}),
        ("https://example.org/terms", {"license": "other", "license_link": "https://example.org/terms"}),
        ("Terms of our clinic, 2", {"license": "other", "license_name": "terms-of-our-clinic-2"}),
        ("Proprietary", {"license": "other", "license_name": "proprietary"}),
        ("GPL-3.0-or-later", {"license": "other", "license_name": "gpl-3.0-or-later"}),
    ],
)
def test_a_licence_without_an_identifier_of_the_hub_is_other(licence, fields) -> None:
    header = _header(replace(facts(), licence=licence))
    assert {name: value for name, value in header.items() if name.startswith("license")} == fields
