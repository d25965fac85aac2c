"""The JSON schema of the main file, for editors."""

from __future__ import annotations

from typing import Any

import msgspec

from fixgw import loader
from fixgw.configuration import Common, Main
from fixgw.kit.options import families


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the main file, with the options of all plugins that come with the gateway."""
    definitions: dict[str, Any] = {}

    def of(struct: type[msgspec.Struct], prefix: str) -> dict[str, Any]:
        described = msgspec.json.schema(struct, ref_template=f"#/$defs/{prefix}.{{name}}")
        own = described["$ref"].rsplit("/", 1)[1].removeprefix(f"{prefix}.")
        parts: dict[str, Any] = described["$defs"]
        result: dict[str, Any] = parts.pop(own)
        definitions.update((f"{prefix}.{name}", part) for name, part in parts.items())
        for family in families(struct):
            mapping = result["properties"].pop(family.field)
            kind = mapping.get("additionalProperties")
            value = {**(kind if isinstance(kind, dict) else {}), "description": mapping.get("description", "")}
            result.setdefault("patternProperties", {})[f"^(?:{family.pattern.pattern})$"] = value
            if family.required:
                result["required"].remove(family.field)
        return result

    include = {
        "description": "Files whose mappings are merged here.",
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
    }
    common = of(Common, "connection")["properties"]
    choices = []
    modules: list[str] = []
    for plugin in loader.available():
        names = [plugin.module]
        if plugin.module.startswith(loader.DRIVERS):
            names.append(loader.PLUGINS + plugin.name)  # the driver's other name
        elif plugin.distribution:
            names.append(plugin.name)
        modules += names
        if plugin.options is None:
            continue
        declared = of(plugin.options, plugin.module)
        choices.append(
            {
                "if": {"properties": {"module": {"enum": names}}, "required": ["module"]},
                "then": {
                    "description": plugin.summary,
                    "properties": {**common, "include": include, **declared["properties"]},
                    "required": declared.get("required", []),
                    "additionalProperties": False,
                    **{name: declared[name] for name in ("patternProperties",) if name in declared},
                },
            }
        )
    main = of(Main, "main")
    connection = {
        "type": "object",
        "properties": {**common, "module": {**common["module"], "examples": sorted(modules)}, "include": include},
        "anyOf": [{"required": ["module"]}, {"required": ["include"]}],
        "allOf": choices,
    }
    main["properties"] |= {
        "connections": {
            **main["properties"]["connections"],
            "properties": {"include": include},
            "additionalProperties": {"$ref": "#/$defs/connection"},
        },
        "include": include,
    }
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **main,
        "title": "FIX Gateway configuration",
        "$defs": {"connection": connection, **definitions},
    }
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(whole))  # defaults may be tuples
    return plain
