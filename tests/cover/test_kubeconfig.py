"""A kubeconfig: which server it names, and how it logs in."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING, Any

import pytest

from flows.cover.cluster import ClusterUnreadable, read_cluster
from flows.cover.exec_plugin import with_credentials
from flows.cover.kubeconfig import IN_CLUSTER, KubeconfigUnusable, find_access
from tests.cover.clusters import (
    write_kubeconfig,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support_misbehaving import Misbehaving


PLUGIN = """#!/bin/sh
test -n "$KUBERNETES_EXEC_INFO" || exit 3
test "$1" = get-token || { echo "no such command" >&2; exit 4; }
echo "{\\"kind\\": \\"ExecCredential\\", \\"status\\": {\\"token\\": \\"$TOKEN\\"}}"
"""


def plugin(folder: Path, *arguments: str, **more: Any) -> dict[str, Any]:
    program = folder / "bin" / "login"
    program.parent.mkdir(exist_ok=True)
    program.write_text(PLUGIN)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": "./bin/login",
            "args": list(arguments),
            "env": [{"name": "TOKEN", "value": "made-up"}],
            **more,
        }
    }


def test_a_program_of_the_kubeconfig_runs_when_the_user_says_so(api: Misbehaving, tmp_path: Path) -> None:
    path = write_kubeconfig(tmp_path, f"http://{api.host}", plugin(tmp_path, "get-token"))
    read_cluster(with_credentials(find_access(str(path)), may_run=True))
    assert {seen.headers.get("authorization") for seen in api.seen} == {"Bearer made-up"}


@pytest.mark.parametrize(
    ("arguments", "more", "may_run", "message"),
    [
        pytest.param(["get-token"], {}, False, "add --exec to run it", id="not without being told"),
        pytest.param(["wrong"], {}, True, "exit code 4: no such command", id="it fails"),
        pytest.param([], {"command": "/no/such"}, True, "cannot be run", id="it is missing"),
        pytest.param(["get-token"], {"env": []}, True, "has no token", id="it gives nothing"),
        pytest.param([], {"command": "true"}, True, "did not print an ExecCredential", id="it says nothing"),
        pytest.param(
            [], {"apiVersion": "v0"}, True, "its apiVersion 'v0' is not known", id="another version"
        ),
        pytest.param(
            ["-c", r"printf '\377'"],
            {"command": "sh"},
            True,
            "did not print an ExecCredential",
            id="it prints no text",
        ),
        pytest.param(
            ["-c", r"printf 'no \377' >&2; exit 5"],
            {"command": "sh"},
            True,
            "exit code 5: no",
            id="it fails with no text",
        ),
        pytest.param(
            ["-c", "head -c 100000 /dev/zero | tr '\\0' '['"],
            {"command": "sh"},
            True,
            "did not print an ExecCredential",
            id="it prints lists without an end",
        ),
        pytest.param(["a\0b"], {}, True, "none that a program can get", id="an argument with a NUL"),
        pytest.param(
            [], {"env": [{"name": "A=B", "value": ""}]}, True, "none that a program can get", id="a variable"
        ),
    ],
)
def test_a_program_that_gives_no_login(
    tmp_path: Path, arguments: list[str], more: dict[str, Any], *, may_run: bool, message: str
) -> None:
    path = write_kubeconfig(tmp_path, "http://127.0.0.1:1", plugin(tmp_path, *arguments, **more))
    with pytest.raises(KubeconfigUnusable) as caught:
        with_credentials(find_access(str(path)), may_run=may_run)
    assert message in str(caught.value)


SECRET = "hunter2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(f"{{{SECRET}: [", "is not YAML", id="not YAML"),
        pytest.param("[]", "is no kubeconfig", id="no mapping"),
        pytest.param("{}", "has no current-context; say which with --context", id="no context"),
        pytest.param("{current-context: a}", "has no context 'a'; it has: none", id="an unknown context"),
        pytest.param(
            "{current-context: a, contexts: [{name: a, context: {cluster: c}}], clusters: [{name: b}]}",
            "has no cluster 'c'; it has: b",
            id="an unknown cluster",
        ),
        pytest.param(
            "{current-context: a, contexts: [{name: a, context: {cluster: c}}], "
            "clusters: [{name: c, cluster: {server: 'ftp://x'}}]}",
            "has no server; write https://HOST:PORT",
            id="no server",
        ),
        pytest.param(
            "{current-context: a, contexts: [{name: a, context: {cluster: c, user: u}}], "
            "clusters: [{name: c, cluster: {server: 'https://x'}}], "
            f"users: [{{name: u, user: {{client-key-data: '{SECRET}!'}}}}]}}",
            "client-key-data is not base64",
            id="a key that is none",
        ),
        pytest.param(
            "{current-context: a, contexts: [{name: a, context: {cluster: c, user: u}}], "
            "clusters: [{name: c, cluster: {server: 'https://x'}}], "
            "users: [{name: u, user: {auth-provider: {name: gcp}}}]}",
            "auth-provider is gone from Kubernetes",
            id="what Kubernetes dropped",
        ),
        pytest.param("{current-context: a, contexts: 7}", "has no context 'a'; it has: none", id="a number"),
        pytest.param(
            "{current-context: a, contexts: [b, {name: c, context: {}}]}",
            "has no context 'a'; it has: c",
            id="a text in a list",
        ),
        pytest.param(
            "{current-context: a, contexts: [{name: a, context: {cluster: c, user: u}}], "
            "clusters: [{name: c, cluster: {server: 'https://x'}}], "
            "users: [{name: u, user: {exec: {args: 7, env: 8}}}]}",
            "exec has no command",
            id="numbers for a program",
        ),
    ],
)
def test_a_kubeconfig_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(KubeconfigUnusable) as caught:
        find_access(str(path))
    assert message in str(caught.value)
    assert SECRET not in str(caught.value)


def test_without_a_file_the_message_says_what_else_there_is(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigUnusable, match="--manifests, --chart or --images"):
        find_access(None, environment={"KUBECONFIG": str(tmp_path / "none")})
    with pytest.raises(KubeconfigUnusable, match="no pod with a service account"):
        find_access(IN_CLUSTER, environment={})


def test_several_files_are_one_and_the_first_counts(tmp_path: Path) -> None:
    """As with kubectl: the variable is a list."""
    (tmp_path / "a").mkdir()
    first = write_kubeconfig(tmp_path / "a", "https://first.example")
    second = write_kubeconfig(tmp_path, "https://second.example")
    document = json.loads(second.read_text())
    document["contexts"].append({"name": "other", "context": {"cluster": "more", "user": "u"}})
    document["clusters"].append({"name": "more", "cluster": {"server": "https://more.example/k8s/"}})
    second.write_text(json.dumps(document))
    environment = {"KUBECONFIG": f"{first}:{second}:{tmp_path / 'none'}"}
    assert find_access(None, environment=environment).server == "https://first.example"
    assert find_access(None, "other", environment=environment).server == "https://more.example/k8s"


def test_no_secret_is_in_what_python_prints(tmp_path: Path) -> None:
    path = write_kubeconfig(tmp_path, "https://x.example", {"token": SECRET, "password": SECRET})
    assert SECRET not in repr(find_access(str(path)))


@pytest.mark.parametrize("sign", ["\n", "\0", "\u00e9", "\x7f"])
def test_a_token_that_no_header_can_have_is_not_shown(
    api: Misbehaving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sign: str
) -> None:
    monkeypatch.setattr("flows.cover.cluster._WAIT", 0.0)
    path = write_kubeconfig(tmp_path, f"http://{api.host}", {"token": f"{SECRET}{sign}{SECRET}"})
    with pytest.raises(KubeconfigUnusable, match="has a character that no token has") as caught:
        read_cluster(find_access(str(path)))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("server", "user", "cluster", "message"),
    [
        pytest.param("https://[::x", {}, {}, "server of 'test' is no URL", id="a server"),
        pytest.param(f"https://{'x' * 64}", {}, {}, "cannot be asked", id="a host with a long label"),
        pytest.param("https://xn--zzzzzzz99", {}, {}, "cannot be asked", id="a host that is no Punycode"),
        pytest.param("https://x", {"client-certificate": "a\0b"}, {}, "is no path", id="a path"),
        pytest.param("https://x", {}, {"tls-server-name": "a\0b"}, "no name of a host", id="a NUL"),
        pytest.param("https://x", {}, {"tls-server-name": ".a"}, "no name of a host", id="a name with a dot"),
    ],
)
def test_what_leads_nowhere_is_one_sentence(
    tmp_path: Path, server: str, user: dict[str, Any], cluster: dict[str, Any], message: str
) -> None:
    path = write_kubeconfig(tmp_path, server, user, **cluster)
    with pytest.raises((KubeconfigUnusable, ClusterUnreadable), match=message):
        read_cluster(find_access(str(path)))
