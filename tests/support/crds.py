"""Our CRDs as an API server would use them, for tests: the schema, strict fields, unique list entries, CEL rules.

Draft 7 of JSON Schema is what OpenAPI 3.0 schemas of CRDs are near enough to. Rules in CEL are evaluated when a package
named `cel` is there, and left out otherwise (`HAS_CEL` says which).
"""

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import yaml

FOLDER = Path(__file__).parents[2] / "deploy/k8s/base/crds"
HAS_CEL = find_spec("cel") is not None

Schema = dict[str, Any]


def load_all() -> dict[str, Schema]:
    """Kind -> openAPIV3Schema of the one version."""
    found = {}
    for path in sorted(FOLDER.glob("*.yaml")):
        crd = yaml.safe_load(path.read_text("utf-8"))
        (version,) = crd["spec"]["versions"]
        found[crd["spec"]["names"]["kind"]] = version["schema"]["openAPIV3Schema"]
    return found


class Crd:
    """One kind's schema, ready to judge documents."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._validator = jsonschema.Draft7Validator(_strict(schema), format_checker=jsonschema.FormatChecker())

    def problems(self, document: object) -> list[str]:
        """What an API server would say; empty for a document that it takes."""
        found = [f"{error.json_path}: {error.message}" for error in self._validator.iter_errors(document)]
        if not found:  # as in an API server, rules see only what the schema let pass
            found.extend(_repeats(self._schema, document))
            found.extend(_broken_rules(self._schema, document))
        return found


def schemas(schema: Schema) -> Iterator[Schema]:
    """The schema and every schema below it, without those of anyOf and its like."""
    yield schema
    for below in schema.get("properties", {}).values():
        yield from schemas(below)
    if "items" in schema:
        yield from schemas(schema["items"])


def _strict(schema: Schema) -> Schema:
    """The schema with unknown fields refused, as kubectl asks of the API server (fieldValidation: Strict)."""
    made = dict(schema)
    if "properties" in schema:
        made["properties"] = {name: _strict(below) for name, below in schema["properties"].items()}
        made["additionalProperties"] = False
    if "items" in schema:
        made["items"] = _strict(schema["items"])
    return made


def _repeats(schema: Schema, value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for name, below in value.items():
            yield from _repeats(schema.get("properties", {}).get(name, {}), below)
    elif isinstance(value, list):
        keys, kind = schema.get("x-kubernetes-list-map-keys"), schema.get("x-kubernetes-list-type")
        entries = [[item.get(key) for key in keys] if keys else item for item in value]
        if kind in ("map", "set") and any(entry in entries[:index] for index, entry in enumerate(entries)):
            yield f"an entry is there twice: {entries}"
        for item in value:
            yield from _repeats(schema.get("items", {}), item)


def _broken_rules(schema: Schema, value: object) -> Iterator[str]:
    if not HAS_CEL:
        return
    evaluate = import_module("cel").evaluate

    for rule in schema.get("x-kubernetes-validations", []):
        if not evaluate(rule["rule"], {"self": value}):
            yield str(rule["message"])
    if isinstance(value, dict):
        for name, below in value.items():
            yield from _broken_rules(schema.get("properties", {}).get(name, {}), below)
    elif isinstance(value, list):
        for item in value:
            yield from _broken_rules(schema.get("items", {}), item)
