"""docker-compose.yml, Dockerfile and .env.example hold together, without running anything."""

import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from compose import FILE, ROOT, VARIABLE, example, interpolated, read

GUIDE = (ROOT / "docs" / "deployment.md").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SERVICES: dict[str, Any] = read()["services"]
CONTINUING = ("postgres", "mlflow", "leaderboard")


def validate(file: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_file_follows_the_compose_specification(tmp_path: Path) -> None:
    pytest.importorskip("check_jsonschema")
    done = validate(FILE)
    assert done.returncode == 0, done.stdout
    broken = read()
    broken["services"]["mlflow"]["helthcheck"] = broken["services"]["mlflow"].pop("healthcheck")
    (tmp_path / "broken.yml").write_text(yaml.safe_dump(broken))
    assert "helthcheck" in validate(tmp_path / "broken.yml").stdout, "the check lets everything through"


def test_every_variable_is_required_and_explained() -> None:
    text = re.sub(r"#.*", "", FILE.read_text())
    assert text.count("$") == len(VARIABLE.findall(text)), "a variable would be empty without anybody noticing"
    assert set(VARIABLE.findall(text)) == set(example())
    for name in example():
        with pytest.raises(SystemExit, match=name):
            interpolated(read(), {**dict.fromkeys(example(), "x"), name: ""})


def test_no_password_is_in_the_files() -> None:
    secrets = {name for name in example() if "PASSWORD" in name}
    assert len(secrets) == 4
    assert all(example()[name] == "" for name in secrets), "whoever forgets to choose one has the one of everybody"
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            for password in [value] if "PASSWORD" in name else re.findall(r"://[^:/]+:([^@]*)@", value):
                assert VARIABLE.fullmatch(password), f"{name} holds a password"
    roles = (ROOT / "docker" / "databases.sql").read_text()
    assert roles.count("PASSWORD :'") == roles.count("CREATE ROLE") == 3


def test_versions_are_pinned() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for name, service in SERVICES.items():
        image, _, tag = service["image"].partition(":")
        assert re.match(r"\d+\.\d+", tag), f"{name} is another image tomorrow"
        assert image != "beans-probe" or tag == version
    for base in re.findall(r"^FROM \S+:(\S+)", DOCKERFILE, re.MULTILINE):
        assert re.match(r"\d+\.\d+\.\d+-", base)
    assert DOCKERFILE.count("--constraint constraints.txt") == 1
    assert "--no-deps" in DOCKERFILE.rpartition("pip install")[2], "the second install would fetch other versions"


def test_nothing_runs_as_root() -> None:
    assert re.findall(r"^USER (\S+)", DOCKERFILE, re.MULTILINE)[-1] == "beans"
    assert "--uid 10001" in DOCKERFILE
    for name, service in SERVICES.items():
        assert "build" in service or service["user"] == "postgres", name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert not service.get("privileged") and "cap_add" not in service, name


def test_volumes_are_declared_and_writable() -> None:
    used = {
        volume.split(":")[0]: volume.split(":")[1] for one in SERVICES.values() for volume in one.get("volumes", ())
    }
    named = {name: inside for name, inside in used.items() if re.fullmatch(r"[a-z]+", name)}
    assert set(named) == set(read()["volumes"])
    (owned,) = re.findall(r"install --directory --owner beans --group beans \\\n(.*?)\n\n", DOCKERFILE, re.DOTALL)
    ours = {inside for name, inside in named.items() if name != "database"}
    assert ours <= set(owned.split()), "Docker would make the place for root, and nothing could be written"
    variables = dict(re.findall(r"\b([A-Z_]+)=(/\S+)", DOCKERFILE))
    for name in ("BEANS_HOME", "HF_HOME", "TORCH_HOME"):
        assert any(Path(variables[name]).is_relative_to(inside) for inside in ours), (
            f"{name} is lost with the container"
        )
    assert Path(SERVICES["mlflow"]["environment"]["MLFLOW_ARTIFACTS_DESTINATION"]) == Path(named["artifacts"])


def test_services_that_go_on_are_watched_and_restarted() -> None:
    assert {name for name, service in SERVICES.items() if not service.get("profiles")} == set(CONTINUING)
    for name in CONTINUING:
        assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"
        assert SERVICES[name]["restart"] == "unless-stopped"
    for service in SERVICES.values():
        for needed, how in service.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"} and "healthcheck" in SERVICES[needed]


def test_only_the_pages_are_published_and_only_where_asked() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(published) == {"mlflow", "leaderboard"}
    for ports in published.values():
        assert all(re.match(r"\$\{BIND_ADDRESS:\?[^}]*\}:\$\{[A-Z]+_PORT:", port) for port in ports)
    assert example()["BIND_ADDRESS"] == "127.0.0.1"


def test_links_lead_where_mlflow_answers_a_browser() -> None:
    """MLflow refuses a host name that it does not know, and Docker publishes it at one port."""
    address = urlsplit(example()["MLFLOW_URL"])
    assert SERVICES["leaderboard"]["environment"]["BEANS_MLFLOW_URL"].startswith("${MLFLOW_URL:")
    assert address.netloc in example()["MLFLOW_HOSTS"].split(",")
    assert str(address.port) == example()["MLFLOW_PORT"]


def test_one_evaluator_for_a_processor_and_one_for_a_gpu() -> None:
    cpu, gpu = SERVICES["evaluator"], SERVICES["evaluator-gpu"]
    assert (cpu["profiles"], gpu["profiles"]) == (["cpu"], ["gpu"])
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    same = [{key: value for key, value in one.items() if key not in ("profiles", "deploy")} for one in (cpu, gpu)]
    assert same[0] == same[1], "a result would depend on more than the device"


def test_image_takes_what_it_copies_and_no_secret() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    allowed = {line.removeprefix("!") for line in lines if line.startswith("!")}
    copied = {word for line in re.findall(r"^COPY (.*) \S+$", DOCKERFILE, re.MULTILINE) for word in line.split()}
    assert lines[0] == "*" and allowed == copied
    assert all((ROOT / name).exists() for name in copied)
    assert not any(fnmatch(".env", name) for name in allowed)
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {name.rstrip("*") for name in packages} <= copied, "a package would be missing from the image"


def test_no_index_is_named() -> None:
    for file in ("Dockerfile", "docker-compose.yml", ".env.example"):
        assert not re.search(
            r"index-url|find-links|https?://(?!127\.0\.0\.1|localhost:5000|mlflow:5000)", (ROOT / file).read_text()
        )


def test_documented_setup_fills_in_every_secret(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    steps = re.findall(r"(?m)(?:^ {7}.*\n)+", GUIDE)
    (setup,) = (step for step in steps if "cp .env.example .env" in step)
    shutil.copy(ROOT / ".env.example", tmp_path)
    subprocess.run(["bash", "-euc", textwrap.dedent(setup)], cwd=tmp_path, check=True)
    written = tmp_path / ".env"
    assert written.stat().st_mode & 0o077 == 0, "others on the machine could read the passwords"
    variables = dict(line.split("=", 1) for line in written.read_text().splitlines() if re.match(r"[A-Z_]+=", line))
    secrets = [value for name, value in variables.items() if "PASSWORD" in name]
    assert len(set(secrets)) == 4 and all(re.fullmatch(r"[0-9a-f]{48}", value) for value in secrets)
    interpolated(read(), variables)


def test_guide_names_what_there_is() -> None:
    commands = re.findall(r"docker compose (?:run|exec|cp|logs|stop)\b(.*)", GUIDE)
    assert len(commands) > 10
    for command in commands:
        assert set(re.split(r"[\s:`]+", command)) & set(SERVICES), f"docker compose would not know: {command}"
    rows = {row.split("`")[1] for row in GUIDE.splitlines() if row.startswith("| `")}
    assert set(SERVICES) <= rows
    for name in [*read()["volumes"], *(name for name in example() if "PASSWORD" not in name and name != "OWN_FILES")]:
        assert f"`{name}`" in GUIDE or f"{name}" in re.sub(r"[`:=]", " ", GUIDE).split(), name
