"""helm takes what becomes of its repository: pull, show, template, and the signature of a chart."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.registries import running_registry
from tests.support_behaviours import answers
from tests.support_misbehaving import misbehaving
from tests.tasks.runs import mirror, opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(shutil.which("helm") is None, reason="helm is not there")


class Helm:
    """The program, with folders of its own; `repository` is a folder that `helm repo index` made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repository = folder / "repository"
        self.repository.mkdir()
        self._environment = {
            "HOME": str(folder),
            "PATH": os.environ["PATH"],
            "GNUPGHOME": str(folder / "gnupg"),
        }

    def run(self, *words: str, program: str = "helm") -> str:
        done = subprocess.run(
            [program, *words],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def package(self, version: str, *options: str) -> None:
        if not (self.folder / "app").exists():
            self.run("create", "app")
        self.run("package", "app", "--version", version, "-d", str(self.repository), *options)
        self.run("repo", "index", str(self.repository))

    def signing_options(self) -> list[str]:
        """A key that is made for this; helm reads keyrings of GnuPG 1."""
        (self.folder / "gnupg").mkdir(mode=0o700)
        name = ["--batch", "--passphrase", "", "--pinentry-mode", "loopback"]
        self.run(*name, "--quick-generate-key", "mirror@example.test", "rsa2048", program="gpg")
        self.run(*name, "--output", "secret.gpg", "--export-secret-keys", program="gpg")
        self.run(*name, "--output", "public.gpg", "--export", program="gpg")
        return ["--sign", "--key", "mirror@example.test", "--keyring", str(self.folder / "secret.gpg")]


@pytest.fixture
def helm(tmp_path: Path) -> Helm:
    return Helm(tmp_path)


def mirrored(helm: Helm) -> Iterator[str]:
    """The address of a registry that has the repository's charts below `charts/`."""
    with misbehaving() as server:
        for path in helm.repository.iterdir():
            server.on(f"/{path.name}", answers(200, path.read_bytes()))
        with opened(
            helm.folder, f"helm+http://{server.host}", {"prefix": "**", "destination": "charts"}
        ) as run:
            report = mirror(run)
            assert report.complete, report
    with running_registry(helm.folder, root=helm.folder / "store") as registry:
        yield f"oci://{registry.host}/charts/app"


def test_helm_pulls_shows_and_renders_the_charts(helm: Helm) -> None:
    helm.package("1.0.0")
    helm.package("1.1.0+build.5")
    for address in mirrored(helm):
        helm.run("pull", address, "--version", "1.0.0", "--plain-http")
        original = (helm.repository / "app-1.0.0.tgz").read_bytes()
        assert (helm.folder / "app-1.0.0.tgz").read_bytes() == original
        shown = helm.run("show", "chart", address, "--version", "1.1.0+build.5", "--plain-http")
        assert "version: 1.1.0+build.5" in shown
        assert "kind: Deployment" in helm.run("template", "x", address, "--plain-http")


@pytest.mark.skipif(shutil.which("gpg") is None, reason="gpg is not there")
def test_helm_verifies_the_signature_of_a_chart(helm: Helm) -> None:
    helm.package("1.0.0", *helm.signing_options())
    for address in mirrored(helm):
        options = ["--version", "1.0.0", "--plain-http", "--verify", "--keyring", "public.gpg"]
        helm.run("pull", address, *options)
        original = (helm.repository / "app-1.0.0.tgz.prov").read_bytes()
        assert (helm.folder / "app-1.0.0.tgz.prov").read_bytes() == original
