"""What goes into a run, and when a run is whole: pure functions."""

import json
import math
import struct
import zlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tracking.mirror_cases import NAME, PATIENT, arrays, epochs, spec
from xferlab.tracking.content import (
    RunOrder,
    content_sha256,
    is_shareable,
    pixel_row,
    run_config,
    run_tags,
    use_tag,
    uses,
    withheld_notes,
)
from xferlab.tracking.mirrored_run import MirroredRun, continues, frames, same

TASK = "segmentation"
ROWS = [result.flat() for result in epochs(1, 4)]


def test_config_is_flat_json_without_paths_or_patients():
    config = run_config(
        replace(spec(), arms=("a", "b")), names=["a/g/r01", "b/g/r01"], parent_weights="f" * 64
    )
    text = json.dumps(config)
    assert (config["arms"], config["names"]) == (["a", "b"], ["a/g/r01", "b/g/r01"])
    assert config["parent_weights_sha256"] == "f" * 64
    assert not any(isinstance(value, dict) for value in config.values())
    assert PATIENT not in text
    assert "/data/" not in text


def test_config_has_the_number_of_a_fold_and_no_name_of_a_site():
    of_fold = run_config(replace(spec(), coordinates={"repeat": 2, "fold": 3}))
    assert (of_fold["repeat"], of_fold["fold"]) == (2, 3)
    assert "St. Mary" not in json.dumps(run_config(replace(spec(), coordinates={"site": "St. Mary"})))


def test_groups_keep_arms_folds_and_stages_apart():
    one, other = spec(), replace(spec(), name="frozen/general/r01", arms=("frozen",))
    fold = replace(spec(), name="baseline/general/r01/f2", fold=2)
    groups = [RunOrder.of_trial(each, run_config(each)).group for each in (one, other, fold)]
    assert groups == ["baseline/general", "frozen/general", "baseline/general/folds"]
    shared = run_config(replace(spec(), arms=("baseline", "frozen")))
    assert (shared["arm"], shared["arms"], shared["task"]) == ("baseline", ["baseline", "frozen"], TASK)
    assert RunOrder.of_trial(spec(), shared).tags[-2:] == ["arm:baseline", "arm:frozen"]


def test_tags_fit_what_wandb_takes_and_absent_names_have_none():
    tags = run_tags({"study": "s" * 100, "profile": None}, ["a", "a"])
    assert tags == ["study:" + "s" * 58, "arm:a"]


def test_no_two_studies_or_profiles_have_one_tag_of_their_runs():
    assert use_tag("covid", None) == "use:covid"
    assert use_tag("covid", "quick") == "use:covid/quick"
    tags = [use_tag("s" * 64, profile) for profile in (None, "quick", "slow")] + [use_tag("s" * 63, None)]
    assert (len(set(tags)), max(map(len, tags))) == (4, 64)
    assert uses([*tags, "study:covid"]) == set(tags)


def test_only_private_sections_of_a_joint_set_are_named_as_withheld():
    data = {"open": {"shareable": True}, "mine": {"shareable": False}}
    assert withheld_notes(data, ["open+mine.test", "mine.validation"]).startswith(
        "Images and the names of cases of mine are withheld"
    )
    assert withheld_notes(data, ["open.test"]) == ""


@pytest.mark.parametrize("value", [False, None, "true", 1, {}])
def test_only_a_plain_true_shares(value):
    assert is_shareable({"lungs": {"shareable": True}}, "lungs")
    assert not is_shareable({"lungs": {"shareable": value}}, "lungs")
    assert not is_shareable({"lungs": {"shareable": True}}, "lung")


def test_a_row_of_pixels_holds_arrays_and_a_caption():
    row = pixel_row(arrays(1)[0], caption=NAME)
    assert row["caption"] == NAME
    assert sorted(row["arrays"]) == ["image", "probability", "target"]


@given(st.integers(0, 4))
def test_any_first_epochs_are_continued(number):
    assert continues({row["epoch"]: row for row in ROWS[:number]}, ROWS)


@pytest.mark.parametrize(
    "held",
    [
        {2: ROWS[1]},  # the first is missing
        {1: {**ROWS[0], "train_loss": 0.5000001}},
        {row["epoch"]: row for row in [*ROWS, {**ROWS[3], "epoch": 5}]},  # one too many
    ],
)
def test_a_gap_another_value_or_more_epochs_are_not_continued(held):
    assert not continues(held, ROWS)


def test_a_run_is_whole_only_when_it_was_closed_with_the_digest_of_its_content():
    assert MirroredRun(content="d", finished=True).is_whole("d")
    assert not MirroredRun(content="d").is_whole("d")
    assert not MirroredRun(finished=True).is_whole("d")


def test_the_digest_changes_with_anything_that_belongs_to_a_run():
    whole = {"epochs": ROWS, "summary": {"dice": math.nan, "n": 3}, "stage": "s", "arms": ["a", "b"]}
    whole |= {"shown": ["x.test"], "images": 4}
    digest = content_sha256(**whole)
    assert content_sha256(**json.loads(json.dumps(whole))) == digest  # as the records give it
    assert content_sha256(**{**whole, "arms": ["b", "a"]}) == digest
    changes = {
        "epochs": [*ROWS[:-1], {**ROWS[-1], "train_loss": 0.25000000000000006}],
        "summary": {"dice": 0.5, "n": 3},
        "stage": "t",
        "arms": ["a"],
        "shown": [],
        "images": 5,
    }
    assert len({content_sha256(**{**whole, key: value}) for key, value in changes.items()} | {digest}) == 7
    private = {**whole, "shown": []}
    assert content_sha256(**private) == content_sha256(**{**private, "images": 5})


def test_same():
    assert same(0.1 + 0.2, 0.3)
    assert same(math.nan, None)
    assert same(1, 1.0)
    assert not same(math.nan, 0.0)
    assert not same(None, 0)
    assert not same("1", 1)


def framed(payloads, block=32768):
    """Writes records as W&B does; the oracle of `frames`."""
    data = bytearray(struct.pack("<4sHB", b":W&B", 0xBEE1, 0))
    for payload in payloads:
        rest, first = payload, True
        while first or rest:
            room = block - len(data) % block
            if room < 7:
                data += bytes(room)
                continue
            chunk, rest = rest[: room - 7], rest[room - 7 :]
            kind = (1 if not rest else 2) if first else (4 if not rest else 3)
            data += struct.pack("<IHB", zlib.crc32(bytes([kind]) + chunk), len(chunk), kind) + chunk
            first = False
    return bytes(data)


@settings(max_examples=25)
@given(st.lists(st.integers(0, 40_000), max_size=4), st.floats(0, 1))
def test_a_file_torn_anywhere_reads_up_to_there(lengths, cut):
    payloads = [bytes([n % 251]) * length for n, length in enumerate(lengths)]
    data = framed(payloads)
    assert list(frames(data)) == payloads
    torn = list(frames(data[: int(cut * len(data))]))
    assert torn == payloads[: len(torn)]
