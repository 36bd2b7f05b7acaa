"""The files that deploy a server fit their schemas, and name what there is."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.triton
ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "triton"
COMPOSE = ["compose.yaml", "compose.gpu.yaml"]


def text_of(name: str) -> str:
    return (FOLDER / name).read_text("utf-8")


def manifests() -> dict[str, Any]:
    return {found["kind"]: found for found in yaml.safe_load_all(text_of("kubernetes.yaml"))}


@pytest.mark.parametrize("name", COMPOSE)
def test_compose_files_fit_the_compose_specification(name: str) -> None:
    compose = pytest.importorskip("compose_spec", reason="compose-spec is missing: pip install '.[triton]'")
    text = re.sub(r"\$\{\w+:-([^}]+)\}", r"\1", text_of(name))  # as Compose does where the variable is not set
    parsed = compose.PyCompose.from_yaml(text)
    parsed.validate()
    assert list(parsed.service_names()) == ["triton"]
    for right, wrong in (("services:", "servces:"), ("build:", "bild:")):
        with pytest.raises(ValueError, match=r"bild|services"):
            compose.PyCompose.from_yaml(text.replace(right, wrong))


def test_manifests_fit_the_schema_of_kubernetes() -> None:
    kubernetes = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate is missing: pip install '.[triton]'"
    )
    found = manifests()
    assert set(found) == {"PersistentVolumeClaim", "Deployment", "Service"}
    for manifest in found.values():
        kubernetes.validate(manifest, kubernetes.latest_version(), strict=True)
    wrong = found["Deployment"]
    wrong["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]["httpGt"] = {}
    with pytest.raises(kubernetes.ValidationError, match="httpGt"):
        kubernetes.validate(wrong, kubernetes.latest_version(), strict=True)


def test_the_parts_of_the_manifest_find_each_other() -> None:
    found = manifests()
    pod = found["Deployment"]["spec"]["template"]
    labels = pod["metadata"]["labels"]
    assert found["Deployment"]["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert found["Service"]["spec"]["selector"].items() <= labels.items()
    (container,) = pod["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert {port["targetPort"]: port["port"] for port in found["Service"]["spec"]["ports"]} == ports
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["path"].startswith("/v2/health/")
        assert container[probe]["httpGet"]["port"] in ports
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    claim = volumes["models"]["persistentVolumeClaim"]["claimName"]
    assert claim == found["PersistentVolumeClaim"]["metadata"]["name"]


def test_the_image_is_made_of_what_is_there() -> None:
    text = text_of("Dockerfile")
    assert re.search(r"^FROM nvcr\.io/nvidia/tritonserver:\$\{TRITON\}-py3$", text, re.M)
    build = yaml.safe_load(text_of("compose.yaml"))["services"]["triton"]["build"]
    assert (FOLDER / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]).is_file()
    kept = re.findall(r"^!(\S+)$", text_of("Dockerfile.dockerignore"), re.M)
    assert [name for name in kept if not (ROOT / name).exists()] == []
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    packed = set(re.findall(r'^"([\w/]+)" = "gpcnn', project, re.M)) | {"pyproject.toml", "hatch_build.py"}
    packed |= set(re.findall(r'(?:readme = |license-files = \[)"([\w.]+)"', project))
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    assert all(name.split("/")[0] in kept for name in packed)
    assert all(name in tracked for name in kept if "." in name or name == "LICENSE")
