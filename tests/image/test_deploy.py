"""deploy.sh against stand-in docker and curl, and a stand-in of RunPod's REST API."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from image_parts import ROOT, assemble
from rest_stand_in import KEY, RestStandIn

pytestmark = pytest.mark.processes

IMAGE = "docker.io/you/seedpod-worker:0.1.0"
STAND_INS = Path(__file__).parent / "stand_ins"
NEEDED = ("bash", "env", "dirname", "cat", "mktemp", "rm", "tail", "timeout", "sleep")
COMPLETE = "{'status': 'complete', 'value': 0.5, 'error': None, 'environment': {'device': 'cpu'}}"
FAILED = "{'status': 'failed', 'value': None, 'error': {'cause': 'data'}, 'environment': {}}"


@dataclass
class Ended:
    """How a run of deploy.sh ended."""

    code: int
    said: str
    calls: str  # what docker and curl were called with
    seconds: float


class Deployment:
    """A machine with nothing on PATH but the tools that deploy.sh names."""

    def __init__(self, folder: Path, api: RestStandIn) -> None:
        self.api = api
        self.bin = folder / "bin"
        self.bin.mkdir()
        self._log = folder / "calls"
        self._scratch = folder / "scratch"
        self._scratch.mkdir()
        for tool in NEEDED:
            (self.bin / tool).symlink_to(str(shutil.which(tool)))
        (self.bin / "python3").symlink_to(Path(sys.executable).resolve())
        for tool in ("docker", "curl"):
            (self.bin / tool).symlink_to(STAND_INS / tool)

    def run(self, *arguments: str, key: str = KEY, **environment: str) -> Ended:
        begun = time.monotonic()
        done = subprocess.run(
            [str(self.bin / "bash"), str(ROOT / "deploy.sh"), *arguments],
            env={
                "PATH": str(self.bin),
                "TMPDIR": str(self._scratch),
                "RUNPOD_API_KEY": key,
                "SEEDPOD_RUNPOD_REST": self.api.url,
                "SEEDPOD_HTTP_TIMEOUT": "2",
                "STAND_IN_LOG": str(self._log),
                "STAND_IN_CURL": str(shutil.which("curl")),
                "STAND_IN_RESULT": COMPLETE,
                **environment,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        calls = self._log.read_text() if self._log.exists() else ""
        assert KEY not in done.stdout + done.stderr + calls
        assert "got the key" not in calls
        assert not list(self._scratch.iterdir())
        return Ended(done.returncode, done.stdout + done.stderr, calls, time.monotonic() - begun)

    def fails(self, *said: str, **environment: str) -> Ended:
        """It stops with exit code 1, and its last line says the step and the cause."""
        ended = self.run(IMAGE, **environment)
        assert ended.code == 1
        last = ended.said.strip().splitlines()[-1]
        assert last.startswith("deploy.sh: ")
        assert all(words in last for words in said), last
        return ended


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    missing = [tool for tool in (*NEEDED, "curl") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"this machine has no {', '.join(missing)}")
    with RestStandIn() as api:
        yield Deployment(tmp_path, api)


def methods(api: RestStandIn) -> list[str]:
    return [f"{method} {path}" for method, path, _ in api.requests if method != "GET"]


def test_shellcheck_finds_nothing() -> None:
    """deploy.sh and the stand-ins pass shellcheck."""
    scripts = [str(ROOT / "deploy.sh"), *map(str, STAND_INS.iterdir())]
    shellcheck = shutil.which(
        "shellcheck", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    )
    if shellcheck is None:
        pytest.skip("shellcheck is not installed; it comes with --group test")
    done = subprocess.run([shellcheck, *scripts], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_first_deployment_creates_template_and_endpoint(deployment: Deployment) -> None:
    """It builds, trains, pushes, creates both with the pinned tag, and prints the endpoint's id and what comes next."""
    ended = deployment.run(IMAGE, "--workers-max", "4", "--concurrency", "2", "--volume", "vol-1", "--cache-gb", "30")
    assert ended.code == 0, ended.said
    assert [line.split()[1] for line in ended.calls.splitlines() if line.startswith("docker")] == [
        *("version", "build", "run", "run", "push")
    ]
    [template], [endpoint] = deployment.api.things["templates"], deployment.api.things["endpoints"]
    assert template["imageName"] == IMAGE
    assert template["isServerless"] is True
    assert template["env"] == {"SEEDPOD_WORKER_CONCURRENCY": "2", "SEEDPOD_CACHE_GB": "30"}
    assert endpoint["templateId"] == template["id"]
    assert (endpoint["workersMax"], endpoint["idleTimeout"], endpoint["executionTimeoutMs"]) == (4, 5, 3_600_000)
    assert endpoint["gpuTypeIds"][0] == "NVIDIA RTX A4000"
    assert endpoint["networkVolumeId"] == "vol-1"
    assert endpoint["flashboot"] is True
    assert "Endpoint: endpoint0" in ended.said
    assert "runpod_service_endpoint=endpoint0" in ended.said
    assert "concurrent_workers=8" in ended.said


def test_second_deployment_updates_both(deployment: Deployment) -> None:
    """Run again with another tag, it finds both by name, FlashBoot's mark included, and updates them in place."""
    assert deployment.run(IMAGE).code == 0
    deployment.api.requests.clear()
    assert deployment.run(IMAGE.replace("0.1.0", "0.2.0"), "--no-flashboot").code == 0
    assert methods(deployment.api) == ["PATCH templates/template0", "PATCH endpoints/endpoint0"]
    assert deployment.api.things["templates"][0]["imageName"].endswith(":0.2.0")
    assert "computeType" not in deployment.api.requests[-1][2]
    assert "isServerless" not in deployment.api.requests[2][2]


def test_a_cpu_endpoint_names_cpus(deployment: Deployment) -> None:
    """With --device cpu the image is built for it and the endpoint asks for CPU flavours."""
    ended = deployment.run(IMAGE, "--device", "cpu", "--datasets", "digits")
    assert ended.code == 0
    assert "--build-arg DEVICE=cpu --build-arg DATASETS=digits" in ended.calls
    [endpoint] = deployment.api.things["endpoints"]
    assert (endpoint["computeType"], endpoint["cpuFlavorIds"], endpoint["vcpuCount"]) == ("CPU", ["cpu3c", "cpu5c"], 2)
    assert "gpuTypeIds" not in endpoint


def test_dry_run_changes_nothing(deployment: Deployment) -> None:
    """It prints every step, needs no key, and calls neither docker nor the API."""
    ended = deployment.run(IMAGE, "--dry-run", key="")
    assert ended.code == 0
    assert ended.calls == ""
    assert deployment.api.requests == []
    for words in ("docker build", "docker run", "docker push", "POST", '"imageName"', '"gpuTypeIds"'):
        assert words in ended.said


def test_help_says_every_option(deployment: Deployment) -> None:
    """--help prints the options and runs nothing."""
    ended = deployment.run("--help")
    assert (ended.code, ended.calls) == (0, "")
    for option in ("--dry-run", "--workers-max", "--idle-timeout", "--gpus", "--execution-timeout", "--no-flashboot"):
        assert option in ended.said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "name the image"),
        (("you/worker",), "tag"),
        (("you/worker:latest",), "latest"),
        (("localhost:5000/worker",), "tag"),
        ((IMAGE, "other:1"), "one image alone"),
        ((IMAGE, "--workers-max", "many"), "--workers-max many"),
        ((IMAGE, "--concurrency", "7"), "from 1 to 6"),
        ((IMAGE, "--device", "tpu"), "gpu or cpu"),
        ((IMAGE, "--datasets", "digits; rm"), "--datasets"),
        ((IMAGE, "--colour", "red"), "no option --colour"),
        ((IMAGE, "--name"), "needs a value"),
    ],
)
def test_wrong_arguments_are_named(deployment: Deployment, arguments: tuple[str, ...], said: str) -> None:
    """An argument that cannot be is named before anything runs."""
    ended = deployment.run(*arguments)
    assert ended.code == 1
    assert said in ended.said
    assert ended.calls == ""


@pytest.mark.parametrize("tool", ["docker", "curl", "python3", "timeout"])
def test_a_missing_tool_is_named(deployment: Deployment, tool: str) -> None:
    """Without one of its tools it says which, first of all."""
    (deployment.bin / tool).unlink()
    assert "docker build" not in deployment.fails("check tools", f"{tool} is not on PATH").calls


def test_a_missing_key_is_named(deployment: Deployment) -> None:
    """Without a key nothing is built."""
    assert deployment.fails("RUNPOD_API_KEY is not set", key="").calls == ""


def test_a_refused_key_stops_it_before_the_build(deployment: Deployment) -> None:
    """A wrong key costs no build."""
    ended = deployment.fails("check tools", "HTTP 401", "refuses the key", key="wrong")
    assert "docker build" not in ended.calls


@pytest.mark.parametrize(
    ("command", "step", "said"),
    [
        ("version", "check tools", "no space left"),
        ("build", "build", "docker build ended with exit code 17"),
        ("run", "train one model", "docker run ended with exit code 17"),
        ("push", "push", "docker push ended with exit code 17"),
    ],
)
def test_a_failing_docker_step_stops_it(deployment: Deployment, command: str, step: str, said: str) -> None:
    """The first docker step that fails is the last thing that happens, and is named with its cause."""
    ended = deployment.fails(step, said, **{f"STAND_IN_DOCKER_{command}": "fail"})
    assert methods(deployment.api) == []
    assert ended.calls.splitlines()[-1].split()[1] in {command, "rm"}


@pytest.mark.parametrize(
    ("command", "option"),
    [("build", "--build-timeout"), ("run", "--smoke-timeout"), ("push", "--build-timeout")],
)
def test_a_hanging_docker_step_is_bounded(deployment: Deployment, command: str, option: str) -> None:
    """A docker that hangs is ended after the step's time."""
    if command == "run":
        (deployment.bin / "docker").unlink()
        text = (STAND_INS / "docker").read_text().replace("\nshift\nif", "\nexec sleep 600\nif")
        (deployment.bin / "docker").write_text(text)
        (deployment.bin / "docker").chmod(0o755)
        ended = deployment.run(IMAGE, option, "1")
        assert "docker rm --force seedpod-smoke-" in ended.calls
    else:
        ended = deployment.run(IMAGE, option, "1", **{f"STAND_IN_DOCKER_{command}": "hang"})
    assert ended.code == 1
    assert f"docker {command} was not done after 1 s" in ended.said
    assert ended.seconds < 20


@pytest.mark.parametrize(
    ("result", "said"), [(FAILED, "ended failed"), ("", "gave no result"), ("{", "gave no result")]
)
def test_an_image_that_does_not_train_is_not_pushed(deployment: Deployment, result: str, said: str) -> None:
    """A job that ends without a complete result stops it before the push."""
    ended = deployment.fails("train one model", said, STAND_IN_RESULT=result)
    assert "docker push" not in ended.calls


@pytest.mark.parametrize(
    ("request_", "how", "said"),
    [
        (("GET", "templates"), 500, ("template", "HTTP 500", "said with ***")),
        (("POST", "templates"), 401, ("template", "HTTP 401", "refuses the key")),
        (("POST", "templates"), 400, ("template", "HTTP 400", "said with ***")),
        (("POST", "templates"), {"name": "x"}, ("template", "no id")),
        (("GET", "endpoints"), "html", ("check tools", "not JSON", "Just a moment")),
        (("POST", "endpoints"), "html", ("endpoint", "not JSON", "found by name")),
        (("POST", "endpoints"), 500, ("endpoint", "HTTP 500", "found by name")),
        (("POST", "endpoints"), "hang", ("endpoint", "no answer", "found by name")),
        (("GET", "templates"), {"data": []}, ("template", "not a list")),
        (("GET", "templates"), [{"id": "a", "name": "seedpod"}, {"id": "b", "name": "seedpod"}], ("a, b", "--name")),
    ],
)
def test_a_failing_api_step_stops_it(
    deployment: Deployment, request_: tuple[str, str], how: Any, said: tuple[str, ...]
) -> None:
    """Errors, web pages, silence and nonsense of the API stop it with step and cause, and no POST is sent twice."""
    deployment.api.misbehave[request_] = how
    ended = deployment.fails(*said)
    assert ended.seconds < 20
    posts = methods(deployment.api)
    assert len(posts) == len(set(posts))
    assert "Endpoint:" not in ended.said


@pytest.mark.slow
def test_the_job_of_the_smoke_test_trains_for_real(deployment: Deployment, tmp_path: Path, digits_cache: Path) -> None:
    """What deploy.sh asks of the container, and what it reads from its output, are what handler and SDK really do."""
    ended = deployment.run(
        IMAGE,
        STAND_IN_APP=str(assemble(tmp_path)),
        STAND_IN_PYTHON=sys.executable,
        SEEDPOD_CACHE_DIR=str(digits_cache),
        HOME=str(tmp_path),
        TF_CPP_MIN_LOG_LEVEL="3",
    )
    assert ended.code == 0, ended.said
    assert "trained one epoch on cpu: validation accuracy 0." in ended.said
