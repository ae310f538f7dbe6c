"""`mirrorflow doctor`: what it finds, what it advises, and how little it asks for that."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import bcrypt
import pytest

from flows.client_config.generate import mirror_of
from flows.client_config.model import Mirror
from flows.doctor.checks import build_checks, run_checks
from flows.doctor.example_images import StoredExample, stored_example
from flows.doctor.findings import CheckStatus, Finding, Subject
from flows.doctor.machine import MachineCheck
from flows.doctor.server import ServerCheck
from flows.doctor.upstream import UpstreamCheck
from flows.entries import open_store
from profiles.loader import parse_profile
from profiles.server_options import server_options
from profiles.values.upstream_url import UpstreamUrl
from registry_server.http.server_process import ServerProcess
from registry_server.oci.digest import Digest
from registry_server.oci.reference import RepositoryName
from registry_server.store.store import Store
from tasks.upstream.login.credentials import Credential, NoCredentials
from tests.on_demand.mirrors import document, mirroring
from tests.support.certificates import Authority
from tests.support_misbehaving import (
    Misbehaving,
    answers,
    hangs,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from profiles.model.profile import Profile

COMMAND = [sys.executable, "-c", "from flows.cli import main; main()"]


def profile(tmp_path: Path, *entries: dict[str, Any], **http: Any) -> Profile:
    found = {"storage": {"rootDirectory": "store"}, "sync": {"registries": list(entries)}, "http": http}
    return parse_profile(json.dumps(found), tmp_path / "profile.json").profile


def test_one_that_hangs_keeps_nobody_waiting(tmp_path: Path, sick: Misbehaving) -> None:
    sick.on("/v2/_catalog", hangs)
    entries = profile(
        tmp_path, {"name": "ill", "urls": [f"http://{sick.host}"], "onDemand": True}
    ).sync.registries
    check = UpstreamCheck(entries[0], entries[0].urls[0], NoCredentials(), None)

    class Broken:
        subject = Subject("broken")

        def findings(self) -> Iterator[Finding]:
            yield self.subject.ok("first", "fine")
            raise ValueError("a bug")

    found = run_checks([check, Broken()], seconds=0.5)
    assert [(each.subject, each.check, each.outcome) for each in found] == [
        ("ill", "reachable", CheckStatus.OK),
        ("ill", "login", CheckStatus.OK),
        ("ill", "time", CheckStatus.FAILED),
        ("broken", "first", CheckStatus.OK),
        ("broken", "check", CheckStatus.FAILED),
    ]


def test_the_server_is_asked_as_each_client_asks(tmp_path: Path, sick: Misbehaving) -> None:
    content = [{"prefix": "**", "destination": "/dest"}]
    with mirroring(tmp_path, document(f"http://{sick.host}", content=content)) as mirror:
        of = profile(tmp_path, document(f"http://{sick.host}", content=content))
        url = of.sync.registries[0].urls[0]
        seen = Mirror("http", mirror.host)
        [empty] = [each for each in ServerCheck(seen, NoCredentials()).findings() if each.check == "pull"]
        assert empty.outcome is CheckStatus.NOTE
        assert mirror.client.get("/v2/dest/library/app/manifests/1.0").status_code == 200
        mirror.work.wait()
        held = stored_example(mirror.store, ["registry1"])
        assert held is not None
        found = {each.check: each for each in ServerCheck(seen, NoCredentials(), held, url).findings()}
        assert {each.outcome for each in found.values()} == {CheckStatus.OK}, found
        assert found["containerd, k3s"].found == f"HEAD library/app:1.0?ns={sick.host}"
        # What `mirrorflow serve` is for containerd: nobody understands `?ns=`.
        mirror.stop_receiver()
        stale = ServerCheck(seen, NoCredentials(), held, replace(url, registry="gone.example")).findings()
        assert {each.check: each for each in stale}["containerd, k3s"].outcome is CheckStatus.FAILED


def test_docker_is_tried_at_the_host_that_stands_for_docker_hub(sick: Misbehaving) -> None:
    digest = Digest.of(b"any")
    held = StoredExample(RepositoryName("hub/app"), "1.0", digest, digest, "hub", "library/app")
    sick.on("/v2/", answers(200, b"{}", Docker_Distribution_Api_Version="registry/2.0"))
    mirror = Mirror("http", sick.host, hub_host="hub.example:80")
    check = ServerCheck(mirror, NoCredentials(), held, UpstreamUrl.parse("https://docker.io"))
    found = {finding.check: finding for finding in check.findings()}
    assert found["docker"].found == "HEAD hub.example:80/library/app:1.0"
    hosts = {seen.headers["host"] for seen in sick.requests("HEAD", "/v2/library/app/")}
    assert hosts == {"hub.example:80", sick.host}  # docker's, and containerd's by `?ns=`


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[tuple[Profile, str, Path]]:
    """A server with TLS by a CA of its own, which wants alice's password; and the folder of the CA."""
    authority = Authority(tmp_path)
    pair = authority.server()
    password = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    (tmp_path / "htpasswd").write_text(f"alice:{password}\n")
    (tmp_path / "trust").mkdir()
    (tmp_path / "trust/ca.crt").write_text(authority.cert.read_text())
    of = profile(
        tmp_path,
        port=0,
        tls={"cert": str(pair.cert), "key": str(pair.key)},
        auth={"htpasswd": {"path": "htpasswd"}, "failDelay": "0s"},
    )
    Store.open(tmp_path / "store", durability="none")
    server = ServerProcess(server_options(of))
    try:
        yield of, server.url.partition("//")[2], tmp_path / "trust"
    finally:
        server.stop()


class _As:
    def __init__(self, password: str) -> None:
        self._credential = Credential("alice", password)

    def find(self, *_: str) -> Credential | None:
        return self._credential


@pytest.mark.parametrize(
    ("password", "outcome"),
    [("secret", CheckStatus.OK), ("wrong", CheckStatus.FAILED)],
    ids=["right", "wrong"],
)
def test_a_login_is_tried_the_way_of_clients(
    locked: tuple[Profile, str, Path], password: str, outcome: CheckStatus
) -> None:
    of, host, trust = locked
    mirror = mirror_of(of, address=host)
    found = {each.check: each for each in ServerCheck(mirror, _As(password), cert_dir=trust).findings()}
    assert found["login"].outcome is outcome
    assert password not in found["login"].found + found["login"].advice
    [untrusted] = ServerCheck(mirror, _As(password)).findings()
    assert "--cert-dir" in untrusted.advice
    elsewhere = mirror_of(of, address=host.replace("127.0.0.1", "localhost"))
    [misnamed] = ServerCheck(elsewhere, _As(password), cert_dir=trust).findings()
    assert "--address" in misnamed.advice  # its certificate is for 127.0.0.1


def test_a_server_that_is_something_else_or_not_there(tmp_path: Path, sick: Misbehaving) -> None:
    for host, words in (
        (sick.host, "the answer is not that of a registry"),
        ("127.0.0.1:9", "connection refused"),
    ):
        [finding] = ServerCheck(Mirror("http", host), NoCredentials()).findings()
        assert finding.outcome is CheckStatus.FAILED
        assert words in finding.found
        assert finding.advice


def test_the_machine(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        of = profile(tmp_path, port=taken.getsockname()[1])
        found = {each.check: each for each in MachineCheck(of, {}).findings()}
        assert found["store"].outcome is CheckStatus.NOTE
        assert "another program listens" in found["port"].found
        assert not (tmp_path / "store").exists()
        open_store(of)
        dead = {"PREFECT_API_URL": "http://127.0.0.1:9/api"}
        again = {each.check: each for each in MachineCheck(of, dead).findings()}
    assert again["store"].outcome is CheckStatus.OK
    assert again["Prefect"].outcome is CheckStatus.FAILED
    assert list((tmp_path / "store").glob(".mirrorflow-doctor-*")) == []
    (tmp_path / "file").write_text("")
    storage = of.storage.model_copy(update={"root_directory": tmp_path / "file" / "store"})
    unwritable = MachineCheck(of.model_copy(update={"storage": storage}), {}).findings()
    assert next(iter(unwritable)).outcome is CheckStatus.FAILED


def test_every_url_of_every_entry_is_checked(tmp_path: Path) -> None:
    urls = ["http://127.0.0.1:9", "http://127.0.0.2:9"]
    of = profile(tmp_path, {"name": "two", "urls": urls, "onDemand": True})
    checks = build_checks(of, of.sync.registries, {})
    assert [each.subject.name for each in checks] == [
        "this machine",
        "server http://127.0.0.1:8080",
        f"two at {urls[0]}",
        f"two at {urls[1]}",
    ]


def test_a_server_is_expected_while_up_holds_the_store(tmp_path: Path) -> None:
    of = profile(tmp_path, port=9)
    store = open_store(of)
    [stopped] = build_checks(of, (), {})[1].findings()
    assert stopped.outcome is CheckStatus.NOTE
    with store.claim("up"):
        [failed] = build_checks(of, (), {})[1].findings()
    assert failed.outcome is CheckStatus.FAILED


@pytest.mark.parametrize(
    ("http", "address", "name"),
    [
        pytest.param(
            {"address": "0.0.0.0", "port": 5000},  # noqa: S104 - nothing listens
            "",
            "server http://127.0.0.1:5000",
            id="all of IPv4",
        ),
        pytest.param({"port": 0}, "", "server", id="any port"),
        pytest.param({"port": 0}, "mirror:5000", "server http://mirror:5000", id="any port, but said"),
    ],
)
def test_which_server_is_asked(tmp_path: Path, http: dict[str, Any], address: str, name: str) -> None:
    of = profile(tmp_path, {"urls": ["http://127.0.0.1:9"], "onDemand": True}, **http)
    assert build_checks(of, (), {}, address=address)[1].subject.name == name


def doctor(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "doctor", str(path), *arguments],
        env={**os.environ, "COLUMNS": "120", "HOME": str(path.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_says_what_failed_and_no_secret(tmp_path: Path, sick: Misbehaving) -> None:
    (tmp_path / "auth.json").write_text(json.dumps({sick.host: {"username": "bob", "password": "hunter2"}}))
    path = tmp_path / "profile.yaml"
    path.write_text(
        "storage: {rootDirectory: store}\nhttp: {port: 9}\n"
        "sync:\n  credentialsFile: auth.json\n"
        f"  registries: [{{name: up, urls: ['http://{sick.host}'], content: [{{prefix: library/app}}]}}]\n"
    )
    stopped = doctor(path)
    assert stopped.returncode == 0, "a server that does not run is a note"
    assert re.search(r"answers +note +connection refused", stopped.stdout)
    told = doctor(path, "--address", "127.0.0.1:9")
    assert told.returncode == 1
    assert "Traceback" not in told.stderr
    assert re.search(r"answers +failed +connection refused *\n +→ start it: mirrorflow up", told.stdout)
    assert re.search(r"login +ok +as bob", told.stdout)
    assert re.search(r"1 of \d+ checks failed", told.stdout)
    for_programs = doctor(path, "--json", "--registry", "up", "--address", "127.0.0.1:9")
    found = json.loads(for_programs.stdout)
    assert found["ok"] is False
    assert set(found["findings"][0]) == {"subject", "check", "outcome", "found", "advice"}
    assert "hunter2" not in told.stdout + told.stderr + for_programs.stdout
