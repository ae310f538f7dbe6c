"""The audit log of the server: clients push, delete and pull, several processes write, files are rotated."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from flows.demo.sample_images import layer
from registry_server.append_log import LONGEST, AppendLog
from registry_server.store.store import Store
from tests.registry_server.http.auth.support import AUTH, USERS, auth_of, bearer, guarded, token
from tests.support.registries import running_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.registries import Registry

ACCESS = (
    f"{AUTH}\n"
    "accessControl:\n"
    "  repositories:\n"
    "    '**': {policies: [{users: [alice], actions: [read, create, update, delete]}, "
    "{users: [bob], actions: [read]}]}"
)
LAYER = layer("audited", 1000)
DOCUMENT = (Path(__file__).parents[3] / "docs/audit.md").read_text()


class Log:
    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def take(self) -> list[dict[str, Any]]:
        found = self.lines()
        self.path.write_text("")
        return found

    def texts(self) -> list[str]:
        return [f"{each['event']} {each['outcome']} {each.get('user')}" for each in self.take()]


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Registry, Log]]:
    folder = tmp_path_factory.mktemp("audited")
    path = folder / "audit.log"
    with guarded(folder, ACCESS, audit_log=path, audit_pulls=True, workers=2) as registry:
        registry.maker("library/app").tag(registry.maker("library/app").image([LAYER]), "1")
        yield registry, Log(path)


@pytest.fixture
def registry(audited: tuple[Registry, Log]) -> Registry:
    return audited[0]


@pytest.fixture
def log(audited: tuple[Registry, Log]) -> Log:
    audited[1].take()
    return audited[1]


def documented(heading: str) -> set[str]:
    section = DOCUMENT.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`[^|]*`) \|", section, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def copy(
    skopeo: str, registry: Registry, folder: Path, user: str, target: str
) -> subprocess.CompletedProcess[str]:
    (folder / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    command = [skopeo, "--policy", str(folder / "policy.json"), "copy", "--src-tls-verify=false"]
    command += ["--dest-tls-verify=false", "--src-creds", f"alice:{USERS['alice']}"]
    command += ["--dest-creds", f"{user}:{USERS[user]}"]
    places = [f"docker://{registry.host}/library/app:1", f"docker://{registry.host}/{target}"]
    return subprocess.run([*command, *places], capture_output=True, text=True, check=False)


def test_a_push_of_skopeo_is_told_with_who_what_and_with_which_right(
    registry: Registry, log: Log, skopeo: str, tmp_path: Path
) -> None:
    assert copy(skopeo, registry, tmp_path, "alice", "team/app:2").returncode == 0
    lines = log.take()
    (push,) = [each for each in lines if each["event"] == "push"]
    assert (push["by"], push["user"], push["rights"], push["outcome"]) == (
        "server",
        "alice",
        ["create"],
        "done",
    )
    assert (push["repository"], push["reference"], push["status"]) == ("team/app", "2", 201)
    assert push["digest"] == registry.store.repository(push["repository"]).tag("2").digest  # type: ignore[arg-type,union-attr] # texts of a log
    assert push["client"] == "127.0.0.1"
    assert "skopeo" in push["agent"]
    assert {each["event"] for each in lines} == {"push", "pull", "upload"}
    assert copy(skopeo, registry, tmp_path, "alice", "team/app:2").returncode == 0
    assert [each["rights"] for each in log.take() if each["event"] == "push"] == [["update"]]


def test_a_push_without_the_right_is_told_as_refused(
    registry: Registry, log: Log, skopeo: str, tmp_path: Path
) -> None:
    assert copy(skopeo, registry, tmp_path, "bob", "team/bob:1").returncode != 0
    refused = [each for each in log.take() if each["outcome"] == "refused"]
    assert {(each["event"], each["user"], each["repository"], each["status"]) for each in refused} == {
        ("upload", "bob", "team/bob", 403)
    }
    assert all(each["rights"] == ["create", "update"] for each in refused)


def test_deletions_pulls_and_wrong_passwords_are_told(registry: Registry, log: Log) -> None:
    client = registry.client
    assert client.get("/v2/library/app/manifests/1", auth=auth_of("bob")).status_code == 200
    assert client.head("/v2/library/app/manifests/1", auth=auth_of("bob")).status_code == 200
    assert client.get("/v2/library/app/tags/list", auth=auth_of("bob")).status_code == 200
    assert client.delete("/v2/library/app/manifests/none", auth=auth_of("alice")).status_code == 404
    assert client.delete("/v2/library/app/manifests/1", auth=auth_of("bob")).status_code == 403
    assert client.get("/v2/", auth=httpx.BasicAuth("alice", "not her secret")).status_code == 401
    assert client.get("/v2/").status_code == 401
    assert client.get("/v2/", headers=bearer("no token")).status_code == 401
    assert log.texts() == [
        "pull done bob",
        "delete failed alice",
        "delete refused bob",
        "login refused None",
        "login refused None",
    ]


def test_a_wrong_password_in_a_form_is_told(registry: Registry, log: Log) -> None:
    form = {"grant_type": "password", "username": "alice", "password": "not hers", "service": "mirrorflow"}
    assert registry.client.post("/auth/token", data=form).status_code == 401
    assert registry.client.post("/auth/token", data=form | {"password": USERS["alice"]}).status_code == 200
    assert log.texts() == ["login refused None"]


def test_a_user_with_a_token_is_told_by_name(registry: Registry, log: Log) -> None:
    made = token(registry, "alice", "repository:library/app:pull")
    assert registry.client.get("/v2/library/app/manifests/1", headers=bearer(made)).status_code == 200
    assert log.texts() == ["pull done alice"]


def test_no_line_has_a_secret_and_every_field_is_documented(registry: Registry, log: Log) -> None:
    auth = auth_of("alice")
    body = registry.client.get("/v2/library/app/manifests/1", auth=auth)
    path = f"/v2/library/app/manifests/{body.headers['Docker-Content-Digest']}?tag=a&tag=b"
    evil = "evil\\n\u202e".encode() * 500
    headers = [(b"Content-Type", body.headers["Content-Type"].encode()), (b"User-Agent", evil)]
    assert registry.client.put(path, content=body.content, headers=headers, auth=auth).status_code == 201
    text = log.path.read_text()
    assert not [secret for secret in USERS.values() if secret in text]
    assert "Basic" not in text
    assert text.isascii()
    assert max(map(len, text.splitlines())) < LONGEST
    (push,) = [each for each in log.take() if each["event"] == "push"]
    assert push["tags"] == ["a", "b"]
    assert len(push["agent"]) == 200
    assert set(push) - {"by"} <= documented("What a client did") | documented("Every line")


def test_several_workers_lose_no_line(registry: Registry, log: Log) -> None:
    count = 200

    def pull(number: int) -> None:
        with httpx.Client(base_url=registry.url, auth=auth_of("bob")) as client:
            for _ in range(count // 4):
                headers = {"User-Agent": f"puller {number}"}
                assert client.get("/v2/library/app/manifests/1", headers=headers).status_code == 200

    threads = [threading.Thread(target=pull, args=[number]) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(log.take()) == count


def test_a_log_that_is_moved_away_goes_on_in_a_new_file(registry: Registry, log: Log, tmp_path: Path) -> None:
    def pull() -> None:
        with httpx.Client(base_url=registry.url, auth=auth_of("bob")) as client:
            assert client.get("/v2/library/app/manifests/1").status_code == 200

    for _ in range(4):
        pull()
    log.path.rename(tmp_path / "audit.log.1")
    for _ in range(4):
        pull()
    assert len(Log(tmp_path / "audit.log.1").lines()) == len(log.lines()) == 4


def test_without_pulls_there_is_a_line_for_changes_only(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    with guarded(tmp_path, ACCESS, audit_log=path) as registry:
        registry.maker("app").tag(registry.maker("app").image([LAYER]), "1")
        assert registry.client.get("/v2/app/manifests/1", auth=auth_of("bob")).status_code == 200
        assert registry.client.delete("/v2/app/manifests/1", auth=auth_of("alice")).status_code == 202
    assert Log(path).texts() == ["delete done alice"]


def test_lines_on_standard_output_do_not_stop_the_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Under `up` it is a pipe, which holds 64 KiB."""
    count = 400
    store = Store.open(tmp_path / "store", durability="none")
    with running_registry(
        tmp_path, root=store.root, audit_log=Path("/dev/stdout"), audit_pulls=True
    ) as registry:
        registry.maker("app").tag(registry.maker("app").image([LAYER]), "1")
        headers = {"User-Agent": "x" * 150}
        for _ in range(count):
            assert registry.client.get("/v2/app/manifests/1", headers=headers).status_code == 200
    told = capsys.readouterr().out
    assert len(told) > 2 * 64 * 1024
    assert [json.loads(line)["event"] for line in told.splitlines()] == ["pull"] * count


def test_a_line_is_cut_before_it_could_be_divided(tmp_path: Path) -> None:
    lines = AppendLog(tmp_path / "log")
    lines.write({"text": "\u202e" * 5000, "list": ["x" * 5000] * 5000, "number": 1})
    (found,) = Log(tmp_path / "log").lines()
    assert found["text"] == "\u202e" * 100
    assert found["number"] == 1
    assert (tmp_path / "log").stat().st_size <= LONGEST


def test_a_disk_that_refuses_ends_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    lines = AppendLog(folder / "log")
    lines.write({"number": 1})
    (folder / "log").unlink()
    folder.rmdir()
    lines.write({"number": 2})
    folder.mkdir()
    lines.write({"number": 3})
    assert Log(folder / "log").lines() == [{"number": 3}]
