"""The JSON Schema of a study file, for editors that complete and check while one types."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pydantic import Field

from xferlab.section import NAME_PATTERN, Name, Section
from xferlab.study.compose import NOT_IN_ARMS, NOT_IN_PROFILES
from xferlab.study.schema import Study

_INCLUDE = {"type": "string", "pattern": "#."}


def _overrides(refused: Collection[str], **properties: Any) -> dict[str, Any]:
    heads = "|".join(name for name in Study.model_fields if name not in refused)
    entries = {
        "type": ["object", "null"],
        "properties": properties,
        "propertyNames": {"pattern": rf"^({'|'.join((*properties, heads))})(\..+)?$"},
    }
    return {"patternProperties": {NAME_PATTERN: entries}}


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
            tuned={"description": "How `xferlab tune` found this arm.", "type": "object"},
        ),
    )
    """Treatments to compare: overrides by dotted path, such as `stages.general.starts_from: null`."""
    profiles: dict[Name, Any] = Field(default_factory=dict, json_schema_extra=_overrides(NOT_IN_PROFILES))
    """Overrides for all arms, chosen by `--profile NAME`."""


class StudyFile(Variants, Study):
    """A study file of xferlab: one study, its arms and its profiles."""


def json_schema() -> dict[str, Any]:
    """Returns the JSON Schema (draft 2020-12) of a study file, arms and profiles included."""
    schema = StudyFile.model_json_schema()
    for content in schema["properties"].values():
        if "patternProperties" in content:
            content["additionalProperties"] = False  # names of sections, stages, arms and profiles
    training = schema["$defs"]["Stage"]["properties"]["training"]
    changes = {"$ref": "#/$defs/Training"}  # no field of Training is required, so any subset is valid
    schema["$defs"]["Stage"]["properties"]["training"] = {**changes, "description": training["description"]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
