"""What the launch scripts hand to other systems: JobSet manifests, a SkyPilot task, a Slurm script, an image.

`JOBSET` holds the fields of the JobSet resource (jobset.x-k8s.io/v1alpha2, release 0.8) and of Kubernetes 1.34 that we
use, and `TASK` those of SkyPilot 0.14; a field that is not there is a mistake.
"""

import re
import shlex
import subprocess
from typing import Any

import pytest
import yaml
from command_line import ROOT

TEXT, QUANTITY, COUNT = re.compile(r"(?s).+"), re.compile(r"[1-9]\d*"), range(1, 10**6)
NAME, LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"), re.compile(r"[a-zA-Z0-9]([-_.a-zA-Z0-9]*[a-zA-Z0-9])?")
CONTAINER = {
    "name": NAME,
    "image": TEXT,
    "command": [TEXT],
    "args": [TEXT],
    "env": [{"name": {"T5LIKE_START_SECONDS"}, "value": QUANTITY}],
    "ports": [{"containerPort": range(1, 65536)}],
    "volumeMounts?": [{"name": NAME, "mountPath": re.compile("/t5like/bucket")}],
    "resources": {"requests": {"google.com/tpu": QUANTITY}, "limits": {"google.com/tpu": QUANTITY}},
}
ATTRIBUTES = {"bucketName": re.compile(r"[a-z0-9._-]+"), "mountOptions": re.compile(r"[-a-z0-9=:]+(,[-a-z0-9=:]+)*")}
BUCKET = {"name": NAME, "csi": {"driver": {"gcsfuse.csi.storage.gke.io"}, "volumeAttributes": ATTRIBUTES}}
POD = {
    "restartPolicy": {"Never"},
    "terminationGracePeriodSeconds": COUNT,
    "serviceAccountName?": NAME,
    "volumes?": [BUCKET],
    "nodeSelector": {
        "cloud.google.com/gke-tpu-accelerator": LABEL,
        "cloud.google.com/gke-tpu-topology": LABEL,
        "cloud.google.com/gke-spot?": {"true"},
    },
    "containers": [CONTAINER],
}
EXIT_CODES = {"containerName": NAME, "operator": {"In", "NotIn"}, "values": [range(1, 256)]}
JOB = {
    "completions": COUNT,
    "parallelism": COUNT,
    "backoffLimit": range(100),
    "podFailurePolicy": {"rules": [{"action": {"FailJob", "FailIndex", "Ignore", "Count"}, "onExitCodes": EXIT_CODES}]},
    "template": {"metadata?": {"annotations": {"gke-gcsfuse/volumes": {"true"}}}, "spec": POD},
}
REASONS = {"BackoffLimitExceeded", "DeadlineExceeded", "FailedIndexes", "MaxFailedIndexesExceeded", "PodFailurePolicy"}
JOBSET = {
    "apiVersion": {"jobset.x-k8s.io/v1alpha2"},
    "kind": {"JobSet"},
    "metadata": {
        "name": NAME,
        "namespace": NAME,
        "annotations": {"alpha.jobset.sigs.k8s.io/exclusive-topology": {"cloud.google.com/gke-nodepool"}},
    },
    "spec": {
        "failurePolicy": {
            "maxRestarts": range(1000),
            "rules": [
                {
                    "name": re.compile(r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?"),
                    "action": {"FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"},
                    "onJobFailureReasons": [REASONS],
                }
            ],
        },
        "replicatedJobs": [{"name": NAME, "replicas": COUNT, "template": {"spec": JOB}}],
    },
}
RUNTIMES = {"v2-alpha-tpuv5-lite", "v2-alpha-tpuv5", "v2-alpha-tpuv6e", "tpu-ubuntu2204-base"}
TASK = {
    "name": NAME,
    "workdir": {"."},
    "num_nodes": COUNT,
    "resources": {
        "infra": re.compile(r"gcp(/[^/]+){0,2}"),
        "accelerators": re.compile(r"tpu-(v4|v5litepod|v5p|v6e)-\d+"),
        "accelerator_args": {"runtime_version": RUNTIMES},
        "use_spot": bool,
        "job_recovery": {"max_restarts_on_errors": range(100)},
        "autostop": {"idle_minutes": COUNT, "down": bool},
    },
    "envs": {"CONFIG": TEXT, "RUN": TEXT, "BUCKET": type(None)},
    "file_mounts": {"/bucket": {"source": re.compile(r"gs://\$\{BUCKET\}"), "mode": {"MOUNT"}}},
    "setup": TEXT,
    "run": TEXT,
}


def faults(value: Any, schema: Any, at: str = "") -> list[str]:
    """Where a document differs from a schema: dicts of fields (`?`: may lack), lists of one kind, leaves."""
    if isinstance(schema, dict):
        if not isinstance(value, dict):
            return [f"{at} is no object"]
        known = {name.rstrip("?"): kind for name, kind in schema.items()}
        found = [f"{at}.{name} is unknown" for name in value if name not in known]
        found += [f"{at}.{name} is missing" for name in schema if not name.endswith("?") and name not in value]
        return found + [f for name in known if name in value for f in faults(value[name], known[name], f"{at}.{name}")]
    if isinstance(schema, list):
        if not isinstance(value, list) or not value:
            return [f"{at} is no list"]
        return [fault for index, item in enumerate(value) for fault in faults(item, schema[0], f"{at}[{index}]")]
    if isinstance(schema, re.Pattern):
        fits = schema is QUANTITY or isinstance(value, str)
        return [] if fits and schema.fullmatch(str(value)) else [f"{at} is {value!r}"]
    if isinstance(schema, type):
        return [] if type(value) is schema else [f"{at} is {value!r}"]
    return [] if type(value) in (int, str) and value in schema else [f"{at} is {value!r}"]


def manifest(flags: str, *words: str) -> dict[str, Any]:
    line = f"launch/gke.yaml.sh manifest --name t5 --image registry/t5like:1 {flags} configs/tiny_t5.py"
    command = ["bash", *shlex.split(line), *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    return yaml.safe_load(done.stdout)


@pytest.mark.parametrize(
    ("flags", "slices", "hosts", "chips"),
    [
        ("--accelerator tpu-v5-lite-podslice --topology 4x4", 1, 4, 4),
        ("--accelerator tpu-v5p-slice --topology 4x4x8 --slices 3 --spot --bucket b", 3, 32, 4),
        ("--accelerator tpu-v5-lite-podslice --topology 2x4 --chips-per-host 8 --service-account t5", 1, 1, 8),
        ("--accelerator tpu-v6e-slice --topology 1x1", 1, 1, 1),
    ],
)
def test_manifest_is_a_job_set_with_a_pod_for_each_host(flags, slices, hosts, chips):
    made = manifest(flags)
    assert faults(made, JOBSET) == []
    (job,) = made["spec"]["replicatedJobs"]
    pods = job["template"]["spec"]
    (container,) = pods["template"]["spec"]["containers"]
    assert (job["replicas"], pods["completions"], pods["parallelism"]) == (slices, hosts, hosts)
    assert container["resources"]["requests"] == container["resources"]["limits"] == {"google.com/tpu": chips}
    assert made["spec"]["failurePolicy"]["maxRestarts"] == (100 if "--spot" in flags else 10)
    (rule,) = pods["podFailurePolicy"]["rules"]  # an absent process (75) takes all back, a mistake (2) ends all
    assert (rule["action"], rule["onExitCodes"]["values"]) == ("FailJob", [2])
    pod = pods["template"]["spec"]
    assert ("cloud.google.com/gke-spot" in pod["nodeSelector"]) == ("--spot" in flags)
    assert [volume["name"] for volume in pod.get("volumes", ())] == ["bucket"] * ("--bucket" in flags)
    assert [mount["name"] for mount in container.get("volumeMounts", ())] == ["bucket"] * ("--bucket" in flags)


def test_every_word_of_the_training_command_arrives_in_the_manifest():
    words = [
        "--train.directory",
        "gs://bucket/my run",
        "--data.sources.0.path",
        'it\'s "$HOME" \\ 床 # : *',
        "--x",
        "1e5",
    ]
    made = manifest("--accelerator tpu-v6e-slice --topology 4x4", *words)
    (container,) = made["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"]
    assert container["command"] + container["args"] == ["t5like", "train", "configs/tiny_t5.py", *words]


def test_schema_finds_what_kubernetes_would_refuse():
    made = manifest("--accelerator tpu-v6e-slice --topology 4x4")
    made["spec"]["failurePolicy"]["maxRestart"] = made["spec"]["failurePolicy"].pop("maxRestarts")
    made["spec"]["replicatedJobs"][0]["replicas"] = "2"
    made["metadata"]["name"] = "T5"
    assert sorted(faults(made, JOBSET)) == [
        ".metadata.name is 'T5'",
        ".spec.failurePolicy.maxRestart is unknown",
        ".spec.failurePolicy.maxRestarts is missing",
        ".spec.replicatedJobs[0].replicas is '2'",
    ]


def test_skypilot_task_has_fields_that_skypilot_knows_and_paths_that_exist():
    task = yaml.safe_load((ROOT / "launch" / "skypilot.yaml").read_text())
    assert faults(task, TASK) == []
    assert (ROOT / task["envs"]["CONFIG"]).is_file()
    used = re.findall(r"\$\{?(\w+)", task["setup"] + task["run"] + task["file_mounts"]["/bucket"]["source"])
    assert set(used) == set(task["envs"])
    for path in re.findall(r"bash (\S+)", task["setup"] + task["run"]):
        assert (ROOT / path).is_file()


DIRECTIVES = {
    "--job-name": LABEL,
    "--time": re.compile(r"(\d+-)?\d+:\d\d:\d\d"),
    "--requeue": re.compile(""),
    "--open-mode": re.compile("append|truncate"),
    "--output": TEXT,
    "--signal": re.compile(r"(B:)?(INT|TERM)@\d+"),
}


def test_slurm_script_asks_in_words_of_sbatch():
    script = (ROOT / "launch" / "slurm.sh").read_text()
    lines = re.findall(r"^#SBATCH (.*)$", script, re.MULTILINE)
    asked = {flag: value for flag, _, value in (line.partition("=") for line in lines)}
    assert set(asked) == set(DIRECTIVES)
    for name, value in asked.items():
        assert DIRECTIVES[name].fullmatch(value), (name, value)
    first = next(number for number, line in enumerate(script.splitlines()) if line and not line.startswith("#"))
    assert "#SBATCH" not in "\n".join(script.splitlines()[first:]), "sbatch reads no directive after the first command"


def test_image_is_made_of_what_exists():
    lines = (ROOT / "launch" / "Dockerfile").read_text().splitlines()
    copied = [path for line in lines if line.startswith("COPY") for path in line.split()[1:-1]]
    (version,) = re.findall(r"FROM python:(\d\.\d+)-slim", "\n".join(lines))
    assert all((ROOT / path).exists() for path in [*copied, f"constraints/python{version}.txt"])
    assert f"constraints/python{version}.txt" in "\n".join(lines)
