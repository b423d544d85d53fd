from __future__ import annotations

import hashlib
import hmac
import random
from dataclasses import replace

from xferlab.cohort import Case, Pseudonyms, Selection

JANE = "Jane_Doe_19590317"


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def image(number: int, patient: str) -> Case:
    """A case whose digest, as a manifest's, is a hash of more than the image."""
    file = sha256(f"file {number}")
    return Case(sha256(f"{file} and mask"), f"{patient}/{number}.png", patient, "normal", image_sha256=file)


CASES = [image(number, f"patient {number // 3}") for number in range(30)]


def test_a_pseudonym_is_the_hmac_of_the_id_under_the_smallest_image() -> None:
    cases = [image(number, JANE) for number in range(3)]
    key = min(sha256(f"file {number}") for number in range(3))
    expected = hmac.new(key.encode(), JANE.encode(), hashlib.sha256).hexdigest()[:16]
    hidden = Pseudonyms(cases).hide(cases)
    assert {case.patient for case in hidden.values()} == {f"p-{expected}"}
    assert {digest: case.name for digest, case in hidden.items()} == {
        case.digest: "case-"
        + hmac.new(key.encode(), case.image_sha256.encode(), hashlib.sha256).hexdigest()[:12]
        for case in cases
    }
    otherwise_read = [replace(case, digest=sha256(case.digest)) for case in cases]
    again = Pseudonyms(cases).hide(otherwise_read)
    assert [case.name for case in again.values()] == [case.name for case in hidden.values()]


def test_nothing_that_records_hold_is_the_key() -> None:
    """Who has the records and a list of names tries every digest of them as the key."""
    hidden = Pseudonyms(CASES).hide(CASES)
    selection = Selection.to_evaluate("cxr", hidden.values())
    for row in selection.rows:
        for known in (*row, *(other[0] for other in selection.rows)):
            for patient in {case.patient for case in CASES}:
                guess = hmac.new(known.encode(), patient.encode(), hashlib.sha256).hexdigest()
                assert row[2] != f"p-{guess[:16]}"
    assert all(not case.image_sha256 for case in hidden.values())
    assert not [word for word in str(selection.rows).split("'") if "patient" in word or ".png" in word]


def test_what_a_table_says_of_a_patient_is_hidden_too() -> None:
    told = [replace(case, columns={"patient_id": case.patient, "site": "north"}) for case in CASES]
    hidden = Pseudonyms(told).hide(told)
    assert hidden == Pseudonyms(CASES).hide(CASES)
    assert all(not case.columns for case in hidden.values())


def test_patients_stay_apart_and_whole() -> None:
    hidden = Pseudonyms(CASES).hide(CASES)
    pairs = {(case.patient, hidden[case.digest].patient) for case in CASES}
    assert len(pairs) == len({real for real, _ in pairs}) == len({told for _, told in pairs}) == 10
    assert all(hidden[case.digest].pathology == case.pathology for case in CASES)


def test_pseudonyms_are_blind_to_the_order_and_the_part_of_the_cases() -> None:
    mixed = random.Random(1).sample(CASES, len(CASES))
    whole, part = Pseudonyms(CASES).hide(CASES), Pseudonyms(mixed).hide(mixed[:7])
    assert part == {case.digest: whole[case.digest] for case in mixed[:7]}


def test_a_corrected_mask_or_a_simulated_device_keeps_the_patient() -> None:
    other = [replace(case, digest=sha256(f"{case.digest} other mask")) for case in CASES]
    before, after = Pseudonyms(CASES).hide(CASES), Pseudonyms(other).hide(other)
    assert [case.patient for case in before.values()] == [case.patient for case in after.values()]


def test_one_image_under_two_patients_gives_two_pseudonyms() -> None:
    twice = [replace(image(1, name), digest=sha256(name)) for name in ("a", "b")]
    assert len({case.patient for case in Pseudonyms(twice).hide(twice).values()}) == 2


def test_patients_that_only_an_arm_adds_have_a_key_too() -> None:
    added = [image(number, JANE) for number in (100, 101)]
    pseudonyms = Pseudonyms(CASES)
    hidden = pseudonyms.hide([*CASES, *added])
    assert len({hidden[case.digest].patient for case in added}) == 1
    assert {digest: case for digest, case in hidden.items() if case.digest in pseudonyms.hide(CASES)} == (
        pseudonyms.hide(CASES)
    )
