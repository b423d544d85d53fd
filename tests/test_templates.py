"""The templates for clusters: each against the schema of whoever reads it, and none open to the world."""

from __future__ import annotations

import copy
import importlib
import json
import shlex
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from xferlab.cli.main import build_parser

ROOT = Path(__file__).parents[1]
LAUNCHED = ["cluster.yaml", "cluster-onprem.yaml"]
KUBERNETES = "1.37"

# ray-operator/apis/ray/v1/{rayjob,raycluster}_types.go of github.com/ray-project/kuberay, those that we use.
# Of a RayJob, its spec, its cluster and the autoscaler's options; of the groups of the head and of workers.
KNOWN_FIELDS = [
    {"apiVersion", "kind", "metadata", "spec"},
    {
        "entrypoint", "submissionMode", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "backoffLimit",
        "rayClusterSpec",
    },
    {
        "rayVersion", "authOptions", "enableInTreeAutoscaling", "autoscalerOptions", "headGroupSpec",
        "workerGroupSpecs",
    },
    {"idleTimeoutSeconds", "securityContext"},
    {"serviceType", "rayStartParams", "template"},
    {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"},
]  # fmt: skip


def parsed(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())
    return content


@pytest.fixture(params=LAUNCHED)
def cluster(request: pytest.FixtureRequest) -> dict[str, Any]:
    return parsed(request.param)


KubeRay = tuple[dict[str, Any], dict[str, Any]]


@pytest.fixture(scope="module")
def kuberay() -> KubeRay:
    """The job, and the policy of its network."""
    job, policy = yaml.safe_load_all((ROOT / "jobs/kuberay.yaml").read_text())
    return job, policy


@pytest.fixture
def groups(kuberay: KubeRay) -> list[dict[str, Any]]:
    spec = kuberay[0]["spec"]["rayClusterSpec"]
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


@pytest.mark.component
def test_a_cluster_file_fits_the_schema_of_the_installed_ray(cluster: dict[str, Any]) -> None:
    util = importlib.import_module("ray.autoscaler._private.util")
    util.validate_config(util.prepare_config(copy.deepcopy(cluster)))


@pytest.mark.component
def test_ray_makes_no_security_group_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    aws = importlib.import_module("ray.autoscaler._private.aws.config")
    made: list[Any] = []
    monkeypatch.setattr(aws, "_upsert_security_groups", lambda *asked: made.append(asked) or {})
    config = parsed("cluster.yaml")
    assert aws._configure_security_group(copy.deepcopy(config)) == config
    assert not made


def test_a_cluster_file_opens_nothing_to_the_world(cluster: dict[str, Any]) -> None:
    for node in cluster.get("available_node_types", {}).values():
        assert node["node_config"]["SecurityGroupIds"]  # without them Ray opens SSH to every address
    assert "security_group" not in cluster["provider"]
    (start,) = [command for command in cluster["head_start_ray_commands"] if "ray start" in command]
    assert "--dashboard-host=127.0.0.1" in start
    starts = [*cluster["head_start_ray_commands"], *cluster["worker_start_ray_commands"]]
    assert all("--disable-usage-stats" in command for command in starts if "ray start" in command)
    assert any("RAY_AUTH_MODE=token" in command for command in cluster["initialization_commands"])
    assert "auth_token" in str(cluster["file_mounts"])
    assert not [address for address in ("0.0.0.0", "::/0") if address in json.dumps(cluster)]


def test_what_is_synced_holds_no_results(cluster: dict[str, Any]) -> None:
    assert cluster["file_mounts"]["~/xferlab"] == "."
    ignored = {line.strip().rstrip("/") for line in (ROOT / ".gitignore").read_text().splitlines()}
    synced = {pattern.removeprefix("**/") for pattern in cluster["rsync_exclude"]}
    assert {".venv", "xferlab-results", "reports", "wandb"} <= ignored & synced


def test_the_cloud_grows_with_the_work_and_has_a_gpu() -> None:
    cluster = parsed("cluster.yaml")
    workers = dict(cluster["available_node_types"])
    del workers[cluster["head_node_type"]]
    assert all(node["max_workers"] <= cluster["max_workers"] for node in workers.values())
    assert all(node["node_config"]["InstanceType"].startswith("g") for node in workers.values())


@pytest.mark.component
def test_all_machines_on_premise_join_at_once_and_stay() -> None:
    cluster = parsed("cluster-onprem.yaml")
    prepared = importlib.import_module("ray.autoscaler._private.util").prepare_config(copy.deepcopy(cluster))
    (node,) = prepared["available_node_types"].values()
    workers = len(cluster["provider"]["worker_ips"])
    assert (node["min_workers"], node["max_workers"], prepared["max_workers"]) == (workers, workers, workers)


def test_pods_and_policy_fit_the_schema_of_kubernetes(kuberay: KubeRay, groups: list[dict[str, Any]]) -> None:
    for group in groups:
        pod = {"apiVersion": "v1", "kind": "Pod", **copy.deepcopy(group["template"])}
        pod["metadata"]["name"] = "any"
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)
    kubernetes_validate.validate(kuberay[1], KUBERNETES, strict=True)


def test_the_job_has_known_fields_and_ends_its_cluster(
    kuberay: KubeRay, groups: list[dict[str, Any]]
) -> None:
    job = kuberay[0]
    spec, cluster = job["spec"], job["spec"]["rayClusterSpec"]
    parts = (job, spec, cluster, cluster["autoscalerOptions"], *groups)
    assert [set(part) for part in parts] == KNOWN_FIELDS
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert all(isinstance(value, str) for group in groups for value in group["rayStartParams"].values())
    assert (spec["submissionMode"], spec["shutdownAfterJobFinishes"]) == ("HTTPMode", True)
    assert spec["backoffLimit"] >= 1  # a lost head is a new cluster and the same command


def test_the_entrypoint_is_a_command_of_ours(kuberay: KubeRay) -> None:
    program, *words = shlex.split(kuberay[0]["spec"]["entrypoint"])
    options = build_parser().parse_args(words)
    assert (program, options.verb, options.address) == ("xferlab", "run", "auto")
    assert (ROOT / options.study.removeprefix("/opt/xferlab/")).exists()


def test_pods_have_no_root_no_secrets_in_clear_and_no_way_in(
    kuberay: KubeRay, groups: list[dict[str, Any]]
) -> None:
    job, policy = kuberay
    assert job["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    assert groups[0]["serviceType"] == "ClusterIP"
    assert "LoadBalancer" not in json.dumps(kuberay)
    for group in groups:
        pod = group["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        assert policy["spec"]["podSelector"]["matchLabels"] == group["template"]["metadata"]["labels"]
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"} in container["env"]
            secrets = [each for each in container["env"] if "KEY" in each["name"] or "TOKEN" in each["name"]]
            assert [(set(each), set(each["valueFrom"])) for each in secrets] == [
                ({"name", "valueFrom"}, {"secretKeyRef"})
            ] * 2
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    assert all(rule["from"] for rule in policy["spec"]["ingress"])


def test_the_data_are_claimed_by_a_file_of_their_own(groups: list[dict[str, Any]]) -> None:
    """Deleting the job does not delete them."""
    claim, pod = yaml.safe_load_all((ROOT / "jobs/kuberay-data.yaml").read_text())
    for part in (claim, pod):
        kubernetes_validate.validate(part, KUBERNETES, strict=True)
    for spec in (pod["spec"], *(group["template"]["spec"] for group in groups)):
        used = {one["name"]: one.get("persistentVolumeClaim", {}).get("claimName") for one in spec["volumes"]}
        assert used["data"] == claim["metadata"]["name"]
        mounted = {one["name"]: one["mountPath"] for one in spec["containers"][0]["volumeMounts"]}
        assert mounted["data"] == "/data"
        assert spec["securityContext"] == groups[0]["template"]["spec"]["securityContext"]
        assert spec["containers"][0]["image"] == groups[0]["template"]["spec"]["containers"][0]["image"]


def test_workers_have_gpus_and_room_for_their_trials(groups: list[dict[str, Any]]) -> None:
    (worker,) = groups[1:]
    (container,) = worker["template"]["spec"]["containers"]
    limits = container["resources"]["limits"]
    assert limits == container["resources"]["requests"]
    assert (limits["nvidia.com/gpu"], limits["cpu"]) == ("1", "8")
    assert set(worker["template"]["spec"]["nodeSelector"]) == {"nvidia.com/gpu.product"}
    assert {each["key"] for each in worker["template"]["spec"]["tolerations"]} == {"nvidia.com/gpu"}


@pytest.mark.component
def test_the_image_has_the_version_of_ray_that_the_job_names(kuberay: KubeRay) -> None:
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    assert kuberay[0]["spec"]["rayClusterSpec"]["rayVersion"] == pinned["ray"]
