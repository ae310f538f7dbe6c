"""Credentials from the program that a kubeconfig names (`exec`), as EKS, GKE and AKS have it.

https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins
A kubeconfig that somebody sent could start any program so. It is only run when the user says so.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from flows.cover.kubeconfig import KubeconfigUnusable

if TYPE_CHECKING:
    from flows.cover.kubeconfig import ClusterAccess, ExecPlugin

_SECONDS: Final = 60
_VERSIONS: Final = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")


def with_credentials(access: ClusterAccess, *, may_run: bool) -> ClusterAccess:
    """The access with what the program says, where there is one. Raises `KubeconfigUnusable`."""
    if access.plugin is None:
        return access
    if not may_run:
        raise KubeconfigUnusable(
            f"the user of {access.name!r} logs in with the program {access.plugin.command!r}; add --exec to "
            "run it, or give the objects: "
            "kubectl get pods -A -o json | mirrorflow cover PROFILE --manifests -"
        )
    status = _status(access, access.plugin)
    return replace(
        access,
        token=str(status.get("token") or ""),
        certificate=str(status.get("clientCertificateData") or access.certificate),
        key=str(status.get("clientKeyData") or access.key),
        plugin=None,
    )


def _status(access: ClusterAccess, plugin: ExecPlugin) -> dict[str, Any]:
    if plugin.api_version not in _VERSIONS:
        raise KubeconfigUnusable(
            f"{plugin.command}: its apiVersion {plugin.api_version!r} is not known; write {_VERSIONS[0]!r}"
        )
    output = _run(access, plugin)
    try:
        document = json.loads(output)
        status = document["status"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise KubeconfigUnusable(
            f"{plugin.command}: did not print an ExecCredential with a status"
        ) from error
    if not isinstance(status, dict) or not (status.get("token") or status.get("clientCertificateData")):
        raise KubeconfigUnusable(f"{plugin.command}: its ExecCredential has no token and no certificate")
    return status


def _run(access: ClusterAccess, plugin: ExecPlugin) -> str:
    """A command with a slash begins at the folder of the kubeconfig; others are looked for on PATH."""
    command = str(plugin.folder / plugin.command) if os.sep in plugin.command else plugin.command
    info = {
        "apiVersion": plugin.api_version,
        "kind": "ExecCredential",
        "spec": {"interactive": False, "cluster": {"server": access.server}},
    }
    environment = {**os.environ, **dict(plugin.variables), "KUBERNETES_EXEC_INFO": json.dumps(info)}
    try:
        done = subprocess.run(
            [command, *plugin.arguments],
            capture_output=True,
            text=True,
            errors="replace",  # its words are shown, and a credential is ASCII
            timeout=_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        raise KubeconfigUnusable(f"{plugin.command}: did not end within {_SECONDS} s") from None
    except OSError as error:
        raise KubeconfigUnusable(f"{plugin.command}: cannot be run: {error.strerror}") from error
    except ValueError as error:  # a NUL, or "=" in the name of a variable
        raise KubeconfigUnusable(
            f"{plugin.command!r}: cannot be run: its arguments or variables are none that a program can get"
        ) from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1][:300]
        raise KubeconfigUnusable(f"{plugin.command}: exit code {done.returncode}: {last}")
    return done.stdout
