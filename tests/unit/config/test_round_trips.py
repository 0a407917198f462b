"""What is written is read back: the store, the wire and the disk cache stand on it."""

import json

import yaml
from hypothesis import given, settings

from sidecar.config.resources import name_of, parse_documents, parse_json, parse_wire, resource_of, to_document, to_json
from sidecar.model.clusters import Workload
from sidecar.model.mesh import MeshPolicy
from sidecar.model.snapshot import Body
from tests.unit.config import strategies


@given(strategies.snapshot_bodies)
@settings(max_examples=80)
def test_a_resource_of_the_wire_is_read_back_as_it_was(body: Body) -> None:
    resource = resource_of(body, 7)
    assert parse_wire(resource.name, 7, resource.document) == resource
    assert parse_wire(resource.name, 7, json.loads(resource.document)) == resource


@given(strategies.workloads)
@settings(max_examples=50)
def test_a_workload_is_read_back_as_it_was(body: Workload) -> None:
    parsed = parse_json(to_json(to_document(body)), version=3)
    assert (parsed.body, parsed.name, parsed.version) == (body, name_of(body), 3)


@given(strategies.mesh_policies)
@settings(max_examples=50)
def test_a_mesh_policy_is_read_back_as_it_was(body: MeshPolicy) -> None:
    assert parse_json(to_json(to_document(body))).body == body


@given(strategies.snapshot_bodies)
@settings(max_examples=50)
def test_a_document_written_as_yaml_by_others_means_the_same(body: Body) -> None:
    document = to_document(body)
    if document["kind"] == "Endpoints":  # not a user's kind
        return
    for node in _rules(document):  # files must name a backend with weight; the wire need not
        for backend in node["backendRefs"]:
            backend["weight"] = 1
    expected = parse_json(to_json(document), strict=False).body
    text = yaml.dump(document, Dumper=_Quoting, allow_unicode=True)
    assert parse_documents(text, "made.yaml")[0].body == expected


class _Quoting(yaml.SafeDumper):
    """Quotes text that begins like a number: PyYAML leaves `08` plain, which other readers take for one."""


_Quoting.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style='"' if text[:1] in "0123456789+-." else None
    ),
)


def _rules(document: object) -> list[dict[str, list[dict[str, int]]]]:
    assert isinstance(document, dict)
    rules = document["spec"].get("rules", [])
    assert isinstance(rules, list)
    return rules
