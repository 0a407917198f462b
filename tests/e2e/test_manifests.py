"""deploy/k8s renders with kubectl, passes Kubernetes' own schemas and fits the product: settings, ports, names, kinds.

Objects of the Gateway API are judged by our own loader alone: their CRDs are not bundled (deploy/k8s/README.md).
"""

import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from click.testing import CliRunner

import sidecar
from control_plane.cli.serve_file import parse_serve_file
from sidecar.cli import main
from sidecar.config.files import load_bootstrap
from sidecar.config.header import OWN_API
from sidecar.config.resources import parse_documents
from tests.support import needs
from tests.support.crds import Crd, load_all

ROOT = Path(__file__).parents[2]
BASE = ROOT / "deploy/k8s/base"
CAPTURE = ROOT / "deploy/k8s/overlays/capture"
EXAMPLES = [ROOT / "demo/shop.yaml"]
Object = dict[str, Any]


def read_objects() -> list[Object]:
    """What kustomization.yaml lists, as written."""
    listed = yaml.safe_load((BASE / "kustomization.yaml").read_text("utf-8"))["resources"]
    return [found for name in listed for found in yaml.safe_load_all((BASE / name).read_text("utf-8"))]


OBJECTS = read_objects()
PODS = {found["metadata"]["name"]: found for found in OBJECTS if found["kind"] in ("Deployment", "StatefulSet")}
APPS = [name for name in PODS if name != "control-plane"]


def pod(name: str) -> Object:
    spec: Object = PODS[name]["spec"]["template"]["spec"]
    return spec


def one(kind: str, name: str) -> Object:
    (found,) = [found for found in OBJECTS if found["kind"] == kind and found["metadata"]["name"] == name]
    return found


def kustomized(folder: Path) -> tuple[list[Object], str]:
    """The objects of a folder, and what kubectl complained of."""
    kubectl = needs.find("kubectl")
    assert kubectl is not None  # the marker of each test that comes here
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, timeout=60, check=True)
    return list(yaml.safe_load_all(done.stdout)), done.stderr


@pytest.fixture(scope="module")
def rendered() -> list[Object]:
    objects, complaints = kustomized(BASE)
    assert complaints == ""
    return objects


@pytest.fixture(scope="module")
def captured() -> list[Object]:
    """The overlay; it is written for the oldest kubectl, and newer ones say so."""
    return kustomized(CAPTURE)[0]


@pytest.mark.needs("kubectl")
def test_kustomize_renders_every_object_and_points_pods_at_the_hashed_config(rendered: list[Object]) -> None:
    names = {(found["kind"], found["metadata"]["name"]) for found in rendered}
    maps = {name for kind, name in names if kind == "ConfigMap"}
    used = {
        volume["configMap"]["name"]
        for found in rendered
        if found["kind"] in ("Deployment", "StatefulSet")
        for volume in found["spec"]["template"]["spec"]["volumes"]
        if "configMap" in volume
    }

    assert names >= {(found["kind"], found["metadata"]["name"]) for found in OBJECTS}
    assert used == maps
    assert len(maps) == 4


@pytest.mark.needs("kubectl")
@pytest.mark.parametrize("version", ["1.29", "1.33", "1.37"])
def test_kubernetes_own_schemas_take_every_object(rendered: list[Object], version: str) -> None:
    """Strict: an unknown field is an error. A kind without a schema raises, where the command line would only warn."""
    for found in rendered:
        assert kubernetes_validate.validate(found, version, strict=True) == version


@pytest.mark.needs("kubectl")
@pytest.mark.parametrize("version", ["1.29", "1.33", "1.37"])
def test_kubernetes_own_schemas_take_the_capture_overlay(captured: list[Object], version: str) -> None:
    for found in captured:
        assert kubernetes_validate.validate(found, version, strict=True) == version


@pytest.mark.needs("kubectl")
@pytest.mark.parametrize("name", ["orders-v1", "orders-v2", "stock"])
def test_the_capture_overlay_sets_rules_first_and_tells_sidecar_and_app_apart(
    captured: list[Object], name: str
) -> None:
    (found,) = [one for one in captured if one["kind"] == "Deployment" and one["metadata"]["name"] == name]
    spec = found["spec"]["template"]["spec"]
    (rules, beside), (app,) = spec["initContainers"], spec["containers"]
    service = found["metadata"]["labels"]["app.kubernetes.io/name"]
    sidecar_uid, app_uid = spec["securityContext"]["runAsUser"], app["securityContext"]["runAsUser"]

    assert rules["image"] == beside["image"]
    assert rules["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["NET_ADMIN"]}
    assert "runAsUser" not in beside["securityContext"]
    assert sidecar_uid != app_uid
    assert app_uid > 0
    mounted = str(Path(rules["volumeMounts"][0]["mountPath"]) / "sidecar.yaml")
    file = BASE / f"bootstrap/{service}.yaml"
    words = ["print" if word == "apply" else str(file) if word == mounted else word for word in rules["args"]]
    environment = {entry["name"]: entry["value"] for entry in rules["env"]}
    done = CliRunner().invoke(main, words, env=environment)
    assert done.exit_code == 0, done.output
    assert f"meta skuid {sidecar_uid} accept" in done.stdout
    assert "tcp dport != { 8080 } accept" in done.stdout

    bootstrap, warnings = load_bootstrap(file, {one["name"]: one.get("value", "x") for one in beside["env"]})
    assert warnings == []
    assert bootstrap.outbound.capture is not None
    assert bootstrap.inbound is not None
    assert bootstrap.inbound.capture is not None


@pytest.mark.needs("kubectl")
def test_images_carry_this_version(rendered: list[Object]) -> None:
    images = {
        container["image"]
        for found in rendered
        if found["kind"] in ("Deployment", "StatefulSet")
        for container in containers(found["spec"]["template"]["spec"])
    }

    assert images == {f"sidecar-mesh:{sidecar.__version__}", f"sidecar-mesh-demo:{sidecar.__version__}"}


def containers(spec: Object) -> list[Object]:
    return [*spec.get("initContainers", []), *spec["containers"]]


@pytest.mark.parametrize("name", sorted(PODS))
def test_pods_keep_to_the_restricted_standard(name: str) -> None:
    spec = pod(name)
    context = spec["securityContext"]

    assert spec["automountServiceAccountToken"] is False
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] > 0
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in containers(spec):
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["readOnlyRootFilesystem"] is True
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])
        assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("name", APPS)
def test_apps_have_a_native_sidecar_that_does_not_wait_for_them(name: str) -> None:
    (beside,) = pod(name)["initContainers"]
    named = {port["name"]: port["containerPort"] for port in beside["ports"]}

    assert beside["restartPolicy"] == "Always"
    # /ready says no until the app accepts, and the app is not started before this probe succeeds.
    assert beside["startupProbe"]["httpGet"] == {"path": "/started", "port": "metrics"}
    assert beside["readinessProbe"]["httpGet"] == {"path": "/ready", "port": "metrics"}
    assert named == {"mesh": 15006, "metrics": 15020}


@pytest.mark.parametrize("name", APPS)
def test_the_bootstrap_file_in_a_pod_is_usable_and_fits_the_pod(name: str) -> None:
    spec = pod(name)
    (beside,), (app,) = spec["initContainers"], spec["containers"]
    labels = PODS[name]["spec"]["template"]["metadata"]["labels"]
    service = labels["app.kubernetes.io/name"]
    environment = {entry["name"]: entry.get("value", f"{name}-5d8f7-x2x") for entry in beside["env"]}
    bootstrap, warnings = load_bootstrap(BASE / f"bootstrap/{service}.yaml", environment)
    assert warnings == []

    node, central, inbound = bootstrap.node, bootstrap.control_plane, bootstrap.inbound
    assert (node.service, node.version, node.namespace) == (
        service,
        labels.get("app.kubernetes.io/version", ""),
        "shop",
    )
    assert node.id == f"{name}-5d8f7-x2x"
    assert central is not None
    assert central.join_file is not None
    host, port = central.address
    streams = one("Service", host.split(".")[0])
    assert host == f"control-plane.{streams['metadata']['namespace']}.svc.cluster.local"
    assert port in [entry["port"] for entry in streams["spec"]["ports"]]
    mounts = {mount["name"]: Path(mount["mountPath"]) for mount in beside["volumeMounts"]}
    assert mounts["cache"] == central.cache
    assert mounts["join"] == central.join_file.parent
    assert ["run", "-c", str(mounts["bootstrap"] / "sidecar.yaml")] == beside["args"]

    assert inbound is not None
    command = app["command"]
    listens = int(command[command.index("--listen") + 1].rpartition(":")[2])
    assert [declared.app.port for declared in inbound.ports] == [listens]
    calls = {str(upstream.service.name): str(upstream.listen) for upstream in bootstrap.outbound.upstreams}
    wanted = dict([command[command.index("--calls") + 1].split("=")]) if "--calls" in command else {}
    assert calls == wanted


def test_only_the_door_can_be_reached_past_its_sidecar() -> None:
    reachable = [name for name in APPS if any("0.0.0.0:" in word for word in pod(name)["containers"][0]["command"])]

    assert reachable == ["frontend"]


def test_the_control_plane_has_one_writer_and_listens_where_its_services_point() -> None:
    plane = PODS["control-plane"]
    (container,) = pod("control-plane")["containers"]
    file = parse_serve_file((BASE / "bootstrap/control-plane.yaml").read_text("utf-8"), "control-plane.yaml")
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]

    assert (plane["kind"], plane["spec"]["replicas"]) == ("StatefulSet", 1)
    assert file.api == f"0.0.0.0:{ports['api']}"
    assert file.streams == f"0.0.0.0:{ports['streams']}"
    assert str(Path(file.data).parent) in mounts
    assert {"name": "MESHCTL_TOKEN_FILE", "value": f"{file.data}/api.token"} in container["env"]
    assert "control-plane-api.mesh-system.svc" in file.hosts
    for service in ("control-plane", "control-plane-api"):
        for entry in one("Service", service)["spec"]["ports"]:
            assert ports[entry["targetPort"]] == entry["port"]


def test_every_selector_chooses_the_pods_of_one_template() -> None:
    templates = {name: found["spec"]["template"]["metadata"]["labels"] for name, found in PODS.items()}
    for found in OBJECTS:
        chosen = found["spec"].get("selector") if found["kind"] in ("Service", "Deployment", "StatefulSet") else None
        if chosen is not None:
            chosen = chosen.get("matchLabels", chosen)
            matching = [name for name, labels in templates.items() if chosen.items() <= labels.items()]
            assert len(matching) == 1, found["metadata"]["name"]


def test_every_object_says_that_it_is_part_of_the_mesh() -> None:
    for found in OBJECTS:
        assert found["metadata"]["labels"]["app.kubernetes.io/part-of"].startswith("sidecar-mesh")
    versions = [labels.get("app.kubernetes.io/version") for labels in (PODS["control-plane"]["metadata"]["labels"],)]
    assert versions == [sidecar.__version__]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_resources_pass_the_loader_and_our_crds(path: Path) -> None:
    text = path.read_text("utf-8")
    crds = {kind: Crd(schema) for kind, schema in load_all().items()}
    ours = [found for found in yaml.safe_load_all(text) if found["apiVersion"] == OWN_API]

    assert parse_documents(text, path.name)
    assert ours
    for found in ours:
        assert crds[found["kind"]].problems(found) == []


def test_the_dockerfile_is_short_and_its_images_run_without_root() -> None:
    lines = (ROOT / "deploy/Dockerfile").read_text("utf-8").splitlines()
    project = (ROOT / "pyproject.toml").read_text("utf-8")

    assert len(lines) <= 22
    assert "USER 65532:65532" in lines
    assert lines[-1] == 'ENTRYPOINT ["sidecar"]'
    assert 'sidecar = "sidecar.cli:main"' in project
    for line in lines:
        if line.startswith("COPY ") and "--from" not in line:
            for name in line.split()[1:-1]:
                assert (ROOT / name).exists(), line
