"""Environment variables that win over a profile: for containers, where the file is the same everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from profiles.environment import VARIABLES, EnvironmentInvalid, with_environment
from profiles.loader import load_profile, parse_profile

TEXT = "storage: {rootDirectory: store}\nhttp: {port: 5000}\n"


def test_each_variable_sets_its_key() -> None:
    profile = parse_profile(TEXT, Path("/etc/profile.yaml")).profile
    environment = {
        "MIRRORFLOW_HTTP_ADDRESS": "0.0.0.0",  # noqa: S104 - compared
        "MIRRORFLOW_HTTP_PORT": "8443",
        "MIRRORFLOW_ROOT_DIRECTORY": "/data",
        "MIRRORFLOW_CREDENTIALS_FILE": "/run/secrets/credentials.json",
    }
    assert environment.keys() == VARIABLES.keys()
    found = with_environment(profile, environment)
    assert (found.http.address, found.http.port) == ("0.0.0.0", 8443)  # noqa: S104 - compared
    assert found.storage.root_directory == Path("/data")
    assert found.sync.credentials_file == Path("/run/secrets/credentials.json")


@pytest.mark.parametrize("value", ["", "  "])
def test_an_empty_variable_says_nothing(value: str) -> None:
    """As Compose and unit files have it: `NAME=`."""
    profile = parse_profile(TEXT, Path("/etc/profile.yaml")).profile
    assert with_environment(profile, dict.fromkeys(VARIABLES, value)) == profile


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("tcp://10.96.0.7:8080", id="what Kubernetes sets for a Service"),
        pytest.param("65536", id="too large"),
        pytest.param("-1", id="negative"),
        pytest.param("\N{ARABIC-INDIC DIGIT EIGHT}", id="a digit of another script"),
    ],
)
def test_a_port_that_is_none_is_refused(value: str) -> None:
    profile = parse_profile(TEXT, Path("/etc/profile.yaml")).profile
    with pytest.raises(EnvironmentInvalid, match=r"MIRRORFLOW_HTTP_PORT: .* is not a port"):
        with_environment(profile, {"MIRRORFLOW_HTTP_PORT": value})


def test_a_profile_is_loaded_with_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "profile.yaml"
    path.write_text(TEXT)
    monkeypatch.setenv("MIRRORFLOW_HTTP_PORT", "7000")
    assert load_profile(path).profile.http.port == 7000
