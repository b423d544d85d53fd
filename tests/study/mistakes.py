"""Tables of mistakes in the study of `conftest.BASE`; each is one problem."""

from __future__ import annotations

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
    (
        "{data: mri}",
        "{data: mri, structures: [lesion, lesion]}",
        6,
        "stages.donor.structures: a name stands twice: ",
    ),
    ("{lr: 1e-3}", "{}\nsplit:\n  train: 0.9", 9, "split: train + validation + test is 1.3; it must be 1"),
    ("{lr: 1e-3}", "{}\nnote: " + "[x]", 9, "note is a list; it must be text (numbers in quotes)."),
    ("{lr: 1e-3}", "{}\narms: [a]", 9, "arms is a list; it must be a mapping."),
    ("{lr: 1e-3}", "{}\narms:\n  a b: {}", 10, "the name 'a b' in arms must be letters, digits, `-` and `_`"),
    ("{lr: 1e-3}", "{}\narms:\n  a: 3", 10, "'a' is 3; it must be a mapping of dotted paths to values"),
    (
        "{data: mri}",
        "{data: mri, adapt: {fold: sum}}",
        6,
        "stages.donor: there is nothing to adapt in a stage that starts from random weights; give ",
    ),
    (
        "{data: mri}",
        "{weights: buda2019, adapt: {fold: sum}}",
        6,
        "stages.donor: a stage with given weights has no starts_from, evaluate_on, structures, classes, mo",
    ),
    (
        "{data: mri}",
        "{weights: buda2019, label_fraction: 0.5}",
        6,
        "stages.donor: a stage with given weights has no starts_from, evaluate_on, structures, classes, mo",
    ),
    (
        "{data: mri}",
        "{data: mri, label_fraction: 0}",
        6,
        "stage 'donor' has label_fraction 0, and task 'segmentation' learns from labels alone; give a share ",
    ),
    (
        "{data: mri}",
        "{data: mri, label_fraction: -0.1}",
        6,
        "stages.donor.label_fraction is -0.1; it must be at least 0",
    ),
    (
        "{data: mri}",
        "{data: mri, stratified: false}",
        6,
        "stages.donor: stratified is about label_fraction, which this stage lacks; leave it out",
    ),
    (
        "{data: mri}",
        "{weights: buda2019, label_fraction: 0}",
        6,
        "stages.donor: a stage with given weights has no starts_from, evaluate_on, structures, classes",
    ),
    *(
        ("training: {lr: 1e-3}", f"split: {{{split}}}", 8, message)
        for split, message in (
            ("folds: 2", "split.folds is 2; it must be at least 3."),
            ("folds: true", "split.folds: true is not a number"),
            ("fold: 5", "unknown field 'fold' in split. Did you mean 'folds'?"),
            ("folds: 5, by: site", "split: folds and by each divide the patients; give one of them"),
            ("folds: 5, test: 0.2", "split: with folds there are no shares; leave test out"),
            ("file: a.csv, train: 0.6", "split: with file there are no shares; leave train out"),
            ("file: a.csv, repeats: 2", "split: repeats are for folds; give `folds`, or leave repeats out"),
            ("repeats: 0, folds: 3", "split.repeats is 0; it must be at least 1."),
            ("by: patient_id", "split: by: patient_id names patients or images, and records would hold "),
            ("by: ''", "split.by is ''; it must be some text."),
            (
                "file: '${SPLITS}/a.csv'",
                "split.file needs the environment variable `SPLITS`, which is not set; for example: export ",
            ),
        )
    ),
    (
        "training: {lr: 1e-3}",
        "split: {folds: 5, repeats: 2}\nrepetitions: 25",
        9,
        "repetitions is 25, and the split has 10 (5 folds x 2 repeats); leave repetitions out",
    ),
    (
        "starts_from: donor, evaluate_on: [cxr.test, cxr.hold_out]}\ntraining: {lr: 1e-3}",
        "starts_from: donor, repetitions: 7}\nsplit: {folds: 5, repeats: 2}",
        7,
        "stage 'general' has 7 repetitions, and every 5 folds of the split test each patient once; give 5, ",
    ),
    (
        "starts_from: donor, evaluate_on: [cxr.test, cxr.hold_out]}\ntraining: {lr: 1e-3}",
        "starts_from: donor, repetitions: 15}\nsplit: {folds: 5, repeats: 2}",
        7,
        "stage 'general' has 15 repetitions, and the split has 10 (5 folds x 2 repeats); give at most ",
    ),
    (
        "{data: mri}",
        "{data: mri, label_fraction: 1.5}",
        6,
        "stages.donor.label_fraction is 1.5; it must be at most 1",
    ),
    (
        "lr: 1e-3",
        "augmentation: {gamma: [1.5, 0.7]}",
        8,
        "training.augmentation.gamma: 1.5 to 0.7 falls; give the lower number first",
    ),
    (
        "lr: 1e-3",
        "augmentation: {scale: [0, 1]}",
        8,
        "training.augmentation.scale[0] is 0; it must be at least 0.1",
    ),
    (
        "lr: 1e-3",
        "augmentation: {gama: [0.7, 1.5]}",
        8,
        "unknown field 'gama' in training.augmentation. Did ",
    ),
    ("lr: 1e-3", "augmentation: {flip: 2}", 8, "training.augmentation.flip is 2; it must be at most 1"),
    (
        "lr: 1e-3",
        "intensity: min_max",
        8,
        "training.intensity is 'min_max'; it must be one of zscore, unit, m",
    ),
    (
        "lr: 1e-3",
        "loss: focal",
        8,
        "training.loss is 'focal'; it must be one of dice, dice_as_printed, cross_",
    ),
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
    ("split: {folds: 5}", f"an arm may not override 'split': {PAIRED}"),
    ("split.by: site", f"an arm may not override 'split.by': {PAIRED}"),
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
    ("stages.general.adept: {fold: sum}", "unknown field 'adept' in stages.general. Did you mean 'adapt'?"),
    ("stages.general.adapt.fld: sum", "unknown field 'fld' in stages.general.adapt. Did you mean 'fold'?"),
    (
        "stages.general.adapt.freeze.prt: donor",
        "unknown field 'prt' in stages.general.adapt.freeze. Did you mean",
    ),
    (
        "stages.genral.label_fraction: 0.1",
        "there is no stage 'genral'; this study has donor, general. Did you mean",
    ),
    (
        "stages.general.label_fraction.x: 1",
        "stages.general.label_fraction is a mapping; it must be a number.",
    ),
    (
        "stages.general: {data: cxr, adapt: {fold: sum}}",
        "stages.general: there is nothing to adapt in a stage that starts from random weights; give ",
    ),
    (
        "stages.general.starts_from: null, stages.general.adapt: {fold: sum}",
        "stages.general: there is nothing to adapt in a stage that starts from random weights",
    ),
    (
        "model.in_channels: 1",
        "the images of 'mri' have 3 channels, and the network of stage 'donor' takes 1; set model.in_",
    ),
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

# (adapt of stage `general`, message on line 7)
ADAPTED = [
    ("fold: summ", "stages.general.adapt.fold is 'summ'; it must be one of sum, mean, luminance. Did you "),
    ("folds: sum", "unknown field 'folds' in stages.general.adapt. Did you mean 'fold'?"),
    ("control: random", "stages.general.adapt.control is 'random'; it must be matched."),
    (
        "translator: {kernel: 4}",
        "stages.general.adapt.translator.kernel: 4 is even; the nearest kernels are 3 and 5",
    ),
    ("translator: {depth: 0}", "stages.general.adapt.translator.depth is 0; it must be at least 1."),
    ("translator: {width: true}", "stages.general.adapt.translator.width: true is not a number"),
    (
        "freeze: {part: donor}",
        "the whole donor is frozen and no translator is added, so that nothing would train in the first "
        "epoch; add adapt.translator, freeze the encoder only, or let a level train from epoch 0",
    ),
    (
        "freeze: {part: donor, unfreeze_after: {head: 1}}",
        "the whole donor is frozen and no translator is added",
    ),
    (
        "freeze: {part: encodr}",
        "stages.general.adapt.freeze.part is 'encodr'; it must be one of donor, encoder. Did you mean 'encod",
    ),
    ("freeze: {unfreeze_after: 3}", "the field 'stages.general.adapt.freeze.part' is missing"),
    (
        "freeze: {part: donor, unfreeze_after: {botleneck: 2}}",
        "the name 'botleneck' in stages.general.adapt.freeze.unfreeze_after must be one of encoder1, "
        "encoder2, encoder3, encoder4, bottleneck, decoder4, decoder3, decoder2, decoder1, head. Did you",
    ),
    (
        "freeze: {part: encoder, unfreeze_after: {decoder1: 2}}",
        "stages.general.adapt.freeze: 'decoder1' is no level of the encoder (encoder1, encoder2, "
        "encoder3, encoder4, bottleneck); name one of these, or freeze part: donor",
    ),
    (
        "freeze: {part: encoder, unfreeze_after: 0}",
        "stages.general.adapt.freeze.unfreeze_after is 0; it must be at least 1",
    ),
    (
        "freeze: {part: encoder, unfreeze_after: {encoder1: -1}}",
        "stages.general.adapt.freeze.unfreeze_after.encoder1 is -1; it must be at least 0",
    ),
]
