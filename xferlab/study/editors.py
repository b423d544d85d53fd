"""The JSON Schema of a study file, for editors that complete and check while one types."""

from __future__ import annotations

from collections.abc import Collection
from itertools import chain
from typing import Any

from pydantic import Field
from pydantic.json_schema import models_json_schema

from xferlab.section import NAME_PATTERN, Name, Section
from xferlab.study.compose import NOT_IN_ARMS, NOT_IN_PROFILES
from xferlab.study.schema import Study
from xferlab.tasks import registry

_INCLUDE = {"type": "string", "pattern": "#."}
_BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
"""Where a bound stands behind a validator, pydantic writes it by its own name, which JSON Schema lacks."""


def _overrides(refused: Collection[str], **properties: Any) -> dict[str, Any]:
    heads = "|".join(name for name in Study.model_fields if name not in refused)
    return {
        "patternProperties": {
            NAME_PATTERN: {
                "type": ["object", "null"],
                "properties": properties,
                "propertyNames": {"pattern": rf"^({'|'.join((*properties, heads))})(\..+)?$"},
            }
        }
    }


class Variants(Section):
    """The arms and the profiles of a study file."""

    arms: dict[Name, Any] = Field(
        default_factory=dict,
        json_schema_extra=_overrides(
            NOT_IN_ARMS,
            include={
                "description": "Arms to start from, as FILE.yaml#ARM; later ones win.",
                "anyOf": [_INCLUDE, {"type": "array", "items": _INCLUDE}],
            },
            tuned={"description": "How `xferlab tune` found this arm.", "type": ["object", "array"]},
            priority={"description": "Arms of a higher one run first; default: 0.", "type": "integer"},
        ),
    )
    """Treatments to compare: overrides by dotted path, such as `stages.general.starts_from: null`."""
    profiles: dict[Name, Any] = Field(
        default_factory=dict,
        json_schema_extra=_overrides(
            NOT_IN_PROFILES, arms={"description": "`arms.NAME: null` leaves an arm out.", "not": {}}
        ),
    )
    """Overrides for all arms, chosen by `--profile NAME`."""


class StudyFile(Variants, Study):
    """A study file of xferlab: one study, its arms and its profiles."""


def _with_bounds(schema: Any) -> Any:
    if isinstance(schema, dict):
        is_number = schema.get("type") in ("integer", "number")
        return {
            _BOUNDS.get(key, key) if is_number else key: _with_bounds(value) for key, value in schema.items()
        }
    return [_with_bounds(item) for item in schema] if isinstance(schema, list) else schema


def json_schema() -> dict[str, Any]:
    """Returns the JSON Schema (draft 2020-12) of a study file, arms and profiles included."""
    tasks = [registry.task(name) for name in registry.names()]
    optional = ("adapt", "masks")
    sections = {
        field: [section for task in tasks if (section := getattr(task, field)) is not None]
        for field in ("model", "training", *optional)
    }
    models = [StudyFile, *chain(*sections.values())]
    references, definitions = models_json_schema([(model, "validation") for model in dict.fromkeys(models)])
    schema = definitions["$defs"].pop("StudyFile")
    for content in schema["properties"].values():
        if "patternProperties" in content:
            content["additionalProperties"] = False  # names of sections, stages, arms and profiles
    for name in Variants.model_fields:
        schema["properties"][name]["type"] = ["object", "null"]
    stage = definitions["$defs"]["Stage"]["properties"]
    stage["task"]["enum"] = list(registry.names())
    for field, kinds in sections.items():  # no field of a model or training is required: any subset is valid
        options = [references[kind, "validation"] for kind in kinds]
        null = [{"type": "null"}] if field in optional else []
        stage[field] = {"anyOf": [*options, *null], "description": stage[field]["description"]}
    draft = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return {**draft, **_with_bounds({**schema, **definitions})}
