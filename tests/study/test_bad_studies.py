"""A table of mistakes: each is reported with its line, and nothing else is."""

from __future__ import annotations

import pytest

from tests.study.conftest import BASE, Write, lines_of_problems, problems
from xferlab.study.load import load

PAIRED = "arms are compared repetition by repetition on the same patients; change it in the study itself"
WHOLE = "it belongs to the study as a whole; change it in the study itself, or in a profile"

# (what to replace in the valid study, by what, line, message)
FIELDS = [
    ("stages:", "stagess:", 5, "unknown field 'stagess'. Did you mean 'stages'?"),
    ("study: s", "armz: {}\nstudy: s", 1, "unknown field 'armz'. Did you mean 'arms'?"),
    ("study: s\n", "", 1, "the field 'study' is missing"),
    ("study: s", "study: a b", 1, "study is 'a b'; it must be letters, digits, `-` and `_`, the first a "),
    ("study: s", "study: 2021", 1, "study is 2021; it must be text (numbers in quotes)."),
    ("phantom_mri", "phantom_mir", 3, "data.mri.source is 'phantom_mir'; it must be one of manifest, "),
    ("source: phantom_mri, ", "", 3, "the field 'data.mri.source' is missing"),
    (", count: 20", "", 3, "the field 'data.mri.count' is missing"),
    ("count: 20", "count: true", 3, "data.mri.count: true is not a number"),
    ("count: 20", "count: many", 3, "data.mri.count is 'many'; it must be a whole number."),
    ("count: 20", "count: 2.5", 3, "data.mri.count is 2.5; it must be a whole number."),
    ("count: 20", "count: 0", 3, "data.mri.count is 0; it must be at least 1."),
    ("count: 20", "count: 20, rooot: x", 3, "unknown field 'rooot' in data.mri. Fields: hold_out, where, "),
    ("count: 30", "count: some", 4, "data.cxr.count is 'some'; it must be a whole number or a mapping."),
    (
        "count: 30",
        "count: {covid: 3}",
        4,
        "the name 'covid' in data.cxr.count must be one of covid19, normal, ",
    ),
    ("hold_out: 0.5", "hold_out: 2", 4, "data.cxr.hold_out is 2; it must be at most 1.0."),
    ("hold_out: 0.5", "hold_out: .nan", 4, "data.cxr.hold_out is nan; it must be a finite number."),
    ("hold_out: 0.5", "hold_out: 0", 7, "'cxr.hold_out' is empty: set data.cxr.hold_out to the share of "),
    (
        "source: phantom_mri, count: 20",
        "source: lgg, root: x, where: {patient_id: TCGA_CS}",
        3,
        "data.mri: where.patient_id names patients or images, and records would hold these names; set ",
    ),
    ("count: 20", "count: 20, where: {a: [[1]]}", 3, "data.mri.where.a[0] is a list; it must be text "),
    ("count: 20", "count: 20, where: [a]", 3, "data.mri.where is a list; it must be a mapping."),
    *(
        ("source: phantom_mri, count: 20", f"source: manifest, root: x, labels: {labels}", 3, message)
        for labels, message in (
            ("{lung: 255}", "data.mri.labels.lung is 255; it must be a list or a mapping."),
            (
                "{lung: {abov: 3}}",
                "the name 'abov' in data.mri.labels.lung must be above. Did you mean 'above'?",
            ),
            ("{lung: {}}", "data.mri.labels.lung is a mapping; it must be at least 1 entry long."),
            ("{lung: {above: true}}", "data.mri.labels.lung.above: true is not a number"),
            ("{lung: {above: 65535}}", "data.mri: `above` is a whole number from 0 to 65534, not 65535"),
            ("{lung: {above: -1}}", "data.mri: `above` is a whole number from 0 to 65534, not -1"),
            (
                "{lung: [1], ignore: {above: 3}}",
                "data.mri: `above` is for the structure; list the values to ",
            ),
            (
                "{lung: {above: 3}, ignore: [4]}",
                "data.mri: `ignore` names 4, which is above 3 and so the structure's",
            ),
            ("{lung: [65536]}", "data.mri: mask values are whole numbers from 1 to 65535; 0 is background"),
            ("{lung: []}", "data.mri: each structure needs mask values, and no value may stand twice"),
            ("{lung: [1], ignore: [1]}", "data.mri: each structure needs mask values, and no value may sta"),
        )
    ),
    (
        "{data: mri}",
        "{data: mir}",
        6,
        "stage 'donor' trains on 'mir', which is no data section (there is mri",
    ),
    (
        "{data: mri}",
        "{}",
        6,
        "stages.donor: a stage has either `data` to train on or `weights` that are given",
    ),
    ("{data: mri}", "mri", 6, "stages.donor is 'mri'; it must be a mapping of fields."),
    ("{data: mri}", "{weights: {name: a, path: b}}", 6, "stages.donor.weights: give either a name or a path"),
    (
        "{data: mri}",
        "{weights: {name: a, sha256: x}}",
        6,
        "stages.donor.weights.sha256 is 'x'; it must be 64 ",
    ),
    (
        "{data: mri}",
        "{data: mri, training: {lrr: 1}}",
        6,
        "unknown field 'lrr' in stages.donor.training. Did",
    ),
    ("{data: mri}", "{data: mri, training: {lr: -1}}", 6, "stages.donor.training.lr is -1; it must be more "),
    ("{data: mri}", "{data: mri, repetitions: 2}", 7, "stage 'general' has 25 repetitions and starts from "),
    (
        "from: donor",
        "from: doner",
        7,
        "stage 'general' starts from 'doner', which is no stage of this study ",
    ),
    (
        "from: donor",
        "from: general",
        7,
        "stage 'general' starts from itself; null starts from random weights",
    ),
    (
        "{data: mri}",
        "{data: mri, starts_from: general}",
        6,
        "stages start from each other in a circle: donor -> ",
    ),
    (
        "[cxr.test,",
        "[crx.test,",
        7,
        "'crx.test' names no data section of this study (there is mri, cxr). Did ",
    ),
    (
        "[cxr.test,",
        "[cxr.tset,",
        7,
        "stages.general.evaluate_on: 'cxr.tset' is not `section.part` with a part ",
    ),
    (
        "[cxr.test,",
        "[cxr.test@implnat,",
        7,
        "stages.general.evaluate_on: 'cxr.test@implnat' has the variant 'implnat'; accepted after `@`: "
        "cable, electrode, marker, implant, original. Did you mean 'implant'?",
    ),
    (
        "[cxr.test, cxr.hold_out]",
        "cxr.test",
        7,
        "stages.general.evaluate_on is 'cxr.test'; it must be a list.",
    ),
    (
        "lr: 1e-3",
        "loss: dise",
        8,
        "training.loss is 'dise'; it must be one of dice, dice_as_printed, ",
    ),
    ("lr: 1e-3", "lr: fast", 8, "training.lr is 'fast'; it must be a number."),
    ("lr: 1e-3", "lr: false", 8, "training.lr: false is not a number"),
    ("lr: 1e-3", "optimizer: sgd", 8, "training.optimizer is 'sgd'; it must be adam."),
    ("lr: 1e-3", "rotation: 10", 8, "training.rotation is 10; it must be a mapping of fields."),
    (
        "lr: 1e-3",
        "rotation: {degree: 10}",
        8,
        "unknown field 'degree' in training.rotation. Did you mean 'deg",
    ),
    ("{lr: 1e-3}", "", 8, "training is null; it must be a mapping of fields."),
    ("{lr: 1e-3}", "{deterministic: 3}", 8, "training.deterministic is 3; it must be true or false."),
    (
        "{lr: 1e-3}",
        "{}\nmodel: {image_size: 100}",
        9,
        "model.image_size: 100 is not divisible by 16; the nearest ",
    ),
    ("{lr: 1e-3}", "{}\nmodel: {image_size: natve}", 9, "model.image_size is 'natve'; it must be native."),
    (
        "{lr: 1e-3}",
        "{}\nmodel: {tiles: {size: 64}}",
        9,
        "model: tiles are cut from images of native size, and image_size is 256; set image_size to ",
    ),
    (
        "{lr: 1e-3}",
        "{}\nmodel: {image_size: native, tiles: {size: 100}}",
        9,
        "model.tiles.size: 100 is not divisible by 16; the nearest ",
    ),
    ("{lr: 1e-3}", "{}\nsplit:\n  train: 0.9", 9, "split: train + validation + test is 1.3; it must be 1"),
    ("{lr: 1e-3}", "{}\nnote: " + "[x]", 9, "note is a list; it must be text (numbers in quotes)."),
    ("{lr: 1e-3}", "{}\narms: [a]", 9, "arms is a list; it must be a mapping."),
    ("{lr: 1e-3}", "{}\narms:\n  a b: {}", 10, "the name 'a b' in arms must be letters, digits, `-` and `_`"),
    ("{lr: 1e-3}", "{}\narms:\n  a: 3", 10, "'a' is 3; it must be a mapping of dotted paths to values"),
]

# (overrides of an arm on line 10, message)
ARMS = [
    ("training.lrr: 1", "unknown field 'lrr' in training. Did you mean 'lr'?"),
    ("trainin.lr: 1", "unknown field 'trainin'. Did you mean 'training'?"),
    ("training.lr: fast", "training.lr is 'fast'; it must be a number."),
    (
        "training.lr.x: 1",
        "training.lr is a mapping; it must be a number.",
    ),
    (
        "stages.genral.data: cxr",
        "there is no stage 'genral'; this study has donor, general. Did you mean 'gen",
    ),
    ("data.mir.count: 3", "there is no data section 'mir'; this study has mri, cxr. Did you mean 'mri'?"),
    ("data.mri.root: x", "unknown field 'root' in data.mri. Fields: hold_out, "),
    ("stages.general.training.lrr: 1", "unknown field 'lrr' in stages.general.training. Did you mean 'lr'?"),
    ("stages.general.training.lr: 0", "stages.general.training.lr is 0; it must be more than 0.0."),
    (
        "stages.general.starts_from: x",
        "stage 'general' starts from 'x', which is no stage of this study (there",
    ),
    (
        "stages.general.data: x",
        "stage 'general' trains on 'x', which is no data section (there is mri, cxr).",
    ),
    (
        "stages.donor.repetitions: 3",
        "stage 'general' has 25 repetitions and starts from 'donor', which has 3;",
    ),
    ("stages.donor: {}", "stages.donor: a stage has either `data` to train on or `weights` that are given"),
    (
        "stages.donor.weights: buda2019",
        "stages.donor: a stage has either `data` to train on or `weights` that",
    ),
    ("stages.extra: 3", "stages.extra is 3; it must be a mapping of fields."),
    (
        "stages: {}",
        "an arm may not override 'stages': name what differs by its dotted path, such as `stages.",
    ),
    ("data: {}", "an arm may not override 'data': name what differs by its dotted path, such as `stages.gen"),
    ("study: t", "an arm may not override 'study': it is the study's name"),
    ("seed: 3", f"an arm may not override 'seed': {PAIRED}"),
    ("repetitions: 3", f"an arm may not override 'repetitions': {PAIRED}, or for one stage by `stages.NAME."),
    ("split.train: 0.5", f"an arm may not override 'split.train': {PAIRED}"),
    ("storage: x", f"an arm may not override 'storage': {WHOLE}"),
    ("tracking.wandb: null", f"an arm may not override 'tracking.wandb': {WHOLE}"),
    ("retries: 3", f"an arm may not override 'retries': {WHOLE}"),
    ("compare_to: vidal2021", f"an arm may not override 'compare_to': {WHOLE}"),
    ("overlay_cases: 3", f"an arm may not override 'overlay_cases': {WHOLE}"),
    ("arms: {}", "an arm may not override 'arms': arms do not nest; use `include`"),
    ("data.cxr.hold_out: 0.1", f"an arm may not override 'data.cxr.hold_out': {PAIRED}"),
    ("data.cxr.same_patient: []", f"an arm may not override 'data.cxr.same_patient': {PAIRED}"),
    (
        "data.mri: {source: lgg, root: x, hold_out: 0.1}",
        "this section has hold_out 0.0 in the study and 0.1 in ",
    ),
    ("data.x: {source: lgg, root: x, hold_out: 0.1}", "a section that only an arm has may not set hold_out"),
    ("include: x.yaml", "include is 'x.yaml'; it must be FILE.yaml#ARM, in quotes if it begins with #"),
    ("include: [3]", "include is 3; it must be FILE.yaml#ARM"),
    ("include: '#bb'", "s.yaml has no arm 'bb'; it has b. Did you mean 'b'?"),
    ("include: '#b'", "arms include each other in a circle: "),
    ("include: 'no.yaml#b'", "cannot include "),
]


PROFILES = [
    ("study: x", "a profile may not override 'study': it is the study's name"),
    ("arms: {}", "a profile may not override 'arms': change the arms themselves"),
    ("include: '#x'", "unknown field 'include'. Fields: study, "),
    ("model.imagesize: 3", "unknown field 'imagesize' in model. Did you mean 'image_size'?"),
    ("model.image_size: 100", "model.image_size: 100 is not divisible by 16"),
    ("stages.general.training.lrr: 3", "unknown field 'lrr' in stages.general.training. Did you mean 'lr'?"),
    ("stages.genral.data: cxr", "there is no stage 'genral'; this study has donor, general. Did you mean"),
    ("stages.general.data: x", "stage 'general' trains on 'x', which is no data section"),
]


@pytest.mark.parametrize(("old", "new", "line", "what"), FIELDS, ids=lambda value: str(value)[:30])
def test_a_bad_field_is_reported_once_with_its_line(
    write: Write, old: str, new: str, line: int, what: str
) -> None:
    path = write(edits={old: new})
    (problem,) = problems(path)
    assert problem.startswith(f"{path}:{line}: {what}")


@pytest.mark.parametrize(("override", "what"), ARMS, ids=lambda value: str(value)[:30])
def test_a_bad_arm_is_reported_once_with_its_line(write: Write, override: str, what: str) -> None:
    path = write(f"arms:\n  b: {{{override}}}\n")
    (problem,) = problems(path)
    message = problem.removeprefix(f"{path}:10: ").removeprefix("arm 'b': ").replace(f"{path.parent}/", "")
    assert message.startswith(what)


@pytest.mark.parametrize(("override", "what"), PROFILES, ids=lambda value: str(value)[:30])
def test_profiles_are_checked_even_if_not_chosen(write: Write, override: str, what: str) -> None:
    path = write(f"profiles:\n  p: {{{override}}}\narms: {{a: {{}}, b: {{}}}}\n")
    for profile in (None, "p"):
        (problem,) = problems(path, profile=profile)
        assert problem.startswith(f"{path}:10: profile 'p': {what}")


def test_all_problems_come_at_once_in_the_order_of_the_file(write: Write) -> None:
    more = """\
        seed: x
        split: {trian: 0.6}
        arms:
          a: {training.lrr: 1, stages.general.starts_from: nobody}
        profiles:
          p: {model.size: 3}
        """
    assert lines_of_problems(write(more, edits={"cxr.test": "crx.test"})) == [7, 9, 10, 12, 12, 14]


@pytest.mark.parametrize(
    ("edits", "more", "lines"),
    [
        ({"study: s": "study: a b", "from: donor": "from: x"}, "arms: {a: {training.lr: 0}}\n", [1, 7, 9]),
        (
            {"from: donor": "from: doner"},
            "arms: {a: {}, b: {training.lr: 0.1}, c: {training.lr: 0}}\n",
            [7, 9],
        ),
        ({BASE[BASE.index("stages:") :]: "stages: 3\n"}, "arms: {a: {stages.x.starts_from: null}}\n", [5]),
        ({"mri:": "a b:", "phantom_mri": "x"}, "", [3, 3, 6]),
    ],
    ids=["bad name", "base once, not for each arm", "no stages", "bad name and bad content"],
)
def test_a_mistake_hides_no_other_and_is_reported_once(
    write: Write, edits: dict[str, str], more: str, lines: list[int]
) -> None:
    assert lines_of_problems(write(more, edits=edits)) == lines


@pytest.mark.parametrize(
    ("included", "what"),
    [
        ("# arms\nx: {training.lrr: 1}\n", "2: arm 'a': unknown field 'lrr' in training. Did you mean 'lr'?"),
        ("# arms\nx: [1]\n", "2: 'x' is a list; it must be a mapping of dotted paths to values"),
    ],
)
def test_a_mistake_in_an_included_file_is_reported_once_with_its_line_there(
    write: Write, included: str, what: str
) -> None:
    space = write(included, base="", name="spaces/a.yaml")
    arms = "arms: {a: {include: spaces/a.yaml#x}, b: {include: spaces/a.yaml#x}}\n"
    (problem,) = problems(write(arms))
    assert problem.startswith(f"{space}:{what}")


@pytest.mark.parametrize(
    ("included", "what"),
    [
        ("x: {}\ny: [\n", "2: this is not valid YAML: "),
        ("x: {}\nx: {}\n", "2: 'x' is given twice, first on line 1; keep one"),
        (None, " there is no such file."),
    ],
)
def test_a_file_that_cannot_be_included_is_reported_once(
    write: Write, included: str | None, what: str
) -> None:
    if included:
        write(included, base="", name="a.yaml")
    path = write("arms: {a: {include: a.yaml#x}, b: {include: a.yaml#y}}\n")
    (problem,) = problems(path)
    assert problem.startswith(f"{path}:9: cannot include {path.parent}/a.yaml:{what}")


def test_the_variables_of_a_profile_are_needed_if_it_is_chosen(write: Write) -> None:
    path = write("profiles:\n  p: {data.mri: {source: lgg, root: '${NOT_SET}/x'}}\n")
    load(path, environ={})
    what = "profile 'p': data.mri.root needs the environment variable `NOT_SET`, which is not set; for "
    assert problems(path, profile="p") == [f"{path}:10: {what}example: export NOT_SET=/path/to/it"]


def test_an_unknown_profile_is_suggested(write: Write) -> None:
    path = write("profiles:\n  cpu: {}\n  gpu: {}\n")
    expected = f"{path}:9: there is no profile 'cpuu'; this study has cpu, gpu. Did you mean 'cpu'?"
    assert problems(path, profile="cpuu") == [expected]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "the file is empty; a study is a mapping that begins with"),
        ("- a\n", "this is a list; a study is"),
        ("3\n", "this is 3; a study is"),
    ],
)
def test_a_file_without_a_mapping(write: Write, text: str, what: str) -> None:
    path = write(base=text)
    (problem,) = problems(path)
    assert problem.startswith(f"{path}:1: {what}")


@pytest.mark.parametrize(
    ("edits", "line", "field"),
    [
        ({"{source: phantom_mri, count: 20}": "{source: lgg, root: '${A_B}/x'}"}, 3, "data.mri.root"),
        ({"study: s\n": "study: s\nstorage: '${A_B}/results'\n"}, 2, "storage"),
        ({"{data: mri}": "{weights: {path: '${A_B}/w'}}"}, 6, "stages.donor.weights.path"),
    ],
)
def test_a_missing_variable_is_named(write: Write, edits: dict[str, str], line: int, field: str) -> None:
    path = write("arms: {a: {}, b: {}}\n", edits=edits)
    what = f"{field} needs the environment variable `A_B`, which is not set; for example: export A_B="
    (problem,) = (problem for problem in problems(path) if f":{line}:" in problem)
    assert problem.startswith(f"{path}:{line}: {what}")
