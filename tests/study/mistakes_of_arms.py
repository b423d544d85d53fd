"""Tables of mistakes in what arms and profiles change of the study of `conftest.BASE`, and in `adapt`."""

from __future__ import annotations

PAIRED = "arms are compared repetition by repetition on the same patients; change it in the study itself"
WHOLE = "it belongs to the study as a whole; change it in the study itself, or in a profile"

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
    ("prices.per_kwh: 1", f"an arm may not override 'prices.per_kwh': {WHOLE}"),
    ("priority: high", "priority is 'high'; it must be a whole number"),
    ("priority: true", "priority is true; it must be a whole number"),
    ("arms: {}", "an arm may not override 'arms': arms do not nest; use `include`"),
    ("data.cxr.hold_out: 0.1", f"an arm may not override 'data.cxr.hold_out': {PAIRED}"),
    ("data.cxr.same_patient: []", f"an arm may not override 'data.cxr.same_patient': {PAIRED}"),
    (
        "data.mri: {source: lgg, root: x, hold_out: 0.1}",
        "this section has hold_out 0.0 in the study and 0.1 in ",
    ),
    ("data.x: {source: lgg, root: x, hold_out: 0.1}", "a section that only an arm has may not set hold_out"),
    ("stages.x: {data: mri}", "stage 'x' is trained, and only an arm has it; declare it in the study's own"),
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
    (
        "fold: summ",
        "stages.general.adapt.fold is 'summ'; it must be one of sum, mean, luminance or null. Did ",
    ),
    ("folds: sum", "unknown field 'folds' in stages.general.adapt. Did you mean 'fold'?"),
    ("control: random", "stages.general.adapt.control is 'random'; it must be matched or null."),
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
        "unknown name 'botleneck' in stages.general.adapt.freeze.unfreeze_after; accepted: encoder1, "
        "encoder2, encoder3, encoder4, encoder5, bottleneck, decoder5, decoder4, decoder3, decoder2, "
        "decoder1, head. Did you mean 'bottleneck'?",
    ),
    (
        "freeze: {part: encoder, unfreeze_after: {decoder1: 2}}",
        "stages.general.adapt.freeze: 'decoder1' is no level of the encoder (encoder1, encoder2, "
        "encoder3, encoder4, encoder5, bottleneck); name one of these, or freeze part: donor",
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
