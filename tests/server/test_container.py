"""What the container is made of: checked as far as that goes without building it."""

import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def instructions(kind: str) -> list[str]:
    """The arguments of each instruction of a kind, lines joined."""
    lines = DOCKERFILE.replace("\\\n", " ").splitlines()
    return [line.removeprefix(kind).strip() for line in lines if line.startswith(f"{kind} ")]


def is_sent(path: str) -> bool:
    """Whether a path is part of the build context: the last line of .dockerignore that fits it decides."""
    sent = True
    for line in (ROOT / ".dockerignore").read_text().split("\n"):
        pattern = line.removeprefix("!").removeprefix("**/")
        if line and not line.startswith("#") and any(fnmatch(part, pattern) for part in (path, Path(path).name)):
            sent = line.startswith("!")
    return sent


def linted(dockerfile: Path) -> subprocess.CompletedProcess[str]:
    """What hadolint says of a Dockerfile."""
    here = str(Path(sys.executable).parent)
    hadolint = shutil.which("hadolint", path=here) or shutil.which("hadolint")
    assert hadolint is not None, "hadolint is missing; the extra dev brings it"
    return subprocess.run(
        [hadolint, "--no-color", "--failure-threshold", "style", str(dockerfile)], capture_output=True, text=True
    )


def test_the_dockerfile_passes_its_linter(tmp_path: Path) -> None:
    done = linted(ROOT / "Dockerfile")
    assert done.returncode == 0, done.stdout
    (tmp_path / "Dockerfile").write_text(DOCKERFILE.replace("USER 10001", "USER root"))
    assert "DL3002" in linted(tmp_path / "Dockerfile").stdout  # the last user is root


def test_what_is_copied_is_there_and_sent() -> None:
    copied = [name for line in instructions("COPY") if "--from" not in line for name in line.split()[:-1]]
    assert {"src", "constraints.txt", "pyproject.toml"} <= set(copied)
    for name in copied:
        assert (ROOT / name).exists()
        assert is_sent(name), f"{name} is ignored"
    for name in (".git", ".venv", "demo", "tests", "runs", "module.pyc", "__pycache__"):
        assert not is_sent(name), f"{name} is sent"


def test_what_the_package_needs_to_be_built_is_copied() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    copied = {name for line in instructions("COPY") for name in line.split()}
    for name in [project["readme"], *project["license-files"]]:
        assert name in copied or name.startswith("src/"), f"{name} is not copied"


def test_there_are_two_targets_that_run_as_nobody_in_particular() -> None:
    stages = [line.split()[-1] for line in instructions("FROM")]
    assert {"cpu", "cuda"} <= set(stages)
    assert stages[-1] == "cpu"
    assert instructions("USER") == ["10001"]
    assert instructions("VOLUME") == ['["/weights"]']
    assert "/health" in DOCKERFILE[DOCKERFILE.index("HEALTHCHECK") :].split("ENTRYPOINT")[0]
    installs = [line for run in instructions("RUN") for line in run.split("&&") if "pip install" in line]
    assert all("-c constraints.txt" in line or "--no-deps" in line for line in installs)


def test_compose_starts_what_the_dockerfile_makes() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    stages = [line.split()[-1] for line in instructions("FROM")]
    assert set(compose["services"]) == {"cpu", "cuda"}
    for service in compose["services"].values():
        assert service["build"]["target"] in stages
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert service["read_only"] and service["cap_drop"] == ["ALL"]
        assert service["environment"]["VIRTUE_API_KEY"].startswith("${VIRTUE_API_KEY:?")
        volumes = [volume for volume in service["volumes"] if not volume.startswith("$")]
        assert {volume.partition(":")[0] for volume in volumes} <= set(compose["volumes"])
