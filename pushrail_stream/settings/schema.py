"""JSON Schemas (2020-12) for editors and CI, generated from the models that read.

A schema takes what the reader takes, quoted numbers included. Rules between two keys are the reader's alone.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from pushrail_stream.settings.model import Settings
from pushrail_stream.settings.values import whole

_INTEGER: Final = r"\s*[+-]?[0-9_]+(?:\.0*)?\s*"
"""A quoted whole number, as pydantic reads it."""
_NUMBER: Final = r"\s*[+-]?[0-9_.]+(?:[eE][+-]?[0-9]+)?\s*"
"""A quoted number, as pydantic reads it."""
_TRUTH: Final = "|".join(
    "".join(f"[{letter.upper()}{letter}]" for letter in word)
    for word in ("true", "false", "yes", "no", "on", "off", "t", "f", "y", "n", "1", "0")
)
"""pydantic's words for true and false, in any case."""


class SchemaGenerator(GenerateJsonSchema):
    """Leaves out names of our classes, and the keyword of OpenAPI that JSON Schema does not know."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """No field has a title."""
        del schema
        return False

    def model_schema(self, schema: core_schema.ModelSchema) -> dict[str, Any]:
        """An object without the name of its class."""
        return {name: value for name, value in super().model_schema(schema).items() if name != "title"}

    def dict_schema(self, schema: core_schema.DictSchema) -> dict[str, Any]:
        """A mapping, none of whose names breaks the rule for names."""
        made = super().dict_schema(schema)
        if "patternProperties" in made:
            [(pattern, value)] = made.pop("patternProperties").items()
            made |= {"propertyNames": {"pattern": pattern}, "additionalProperties": value}
        return made

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> dict[str, Any]:
        """The alternatives, each of which names its tag."""
        return {name: value for name, value in super().tagged_union_schema(schema).items() if name != "discriminator"}


class _LenientGenerator(SchemaGenerator):
    """As settings are read: numbers and truths may be texts."""

    def int_schema(self, schema: core_schema.IntSchema) -> dict[str, Any]:
        return super().int_schema(schema) | {"type": ["integer", "string"], "pattern": whole(_INTEGER)}

    def float_schema(self, schema: core_schema.FloatSchema) -> dict[str, Any]:
        return super().float_schema(schema) | {"type": ["number", "string"], "pattern": whole(_NUMBER)}

    def bool_schema(self, schema: core_schema.BoolSchema) -> dict[str, Any]:
        words = {"type": ["boolean", "string", "integer"], "pattern": whole(_TRUTH), "minimum": 0, "maximum": 1}
        return super().bool_schema(schema) | words


def json_schema(model: type[BaseModel], title: str, generator: type[GenerateJsonSchema]) -> dict[str, Any]:
    """The schema of a model."""
    schema = model.model_json_schema(schema_generator=generator)
    return {"$schema": GenerateJsonSchema.schema_dialect, "title": title, **schema}


def settings_schema() -> dict[str, Any]:
    """The schema of the settings file."""
    schema = json_schema(Settings, "Settings of Pushrail Stream", _LenientGenerator)
    for name, value in schema["properties"].items():
        if "$ref" in value:  # a section, which may be left empty
            schema["properties"][name] = {"anyOf": [{"$ref": value["$ref"]}, {"type": "null"}]}
    return schema
