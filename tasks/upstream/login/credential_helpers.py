"""docker-credential-* programs: a host goes in, a secret comes out (docker's credential helper protocol)."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import subprocess
from contextlib import suppress
from threading import Timer
from typing import TYPE_CHECKING

from tasks.upstream.errors import CredentialsInvalid
from tasks.upstream.login.credentials import Credential

if TYPE_CHECKING:
    from collections.abc import Mapping

_log = logging.getLogger(__name__)
_SUFFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_TIMEOUT = 30.0  # seconds
_MAX_OUTPUT = 64 * 1024  # bytes
_NOT_FOUND = "credentials not found"
_IDENTITY = "<token>"  # as Username: Secret is an OAuth refresh token


def ask_helper(
    suffix: str,
    host: str,
    environ: Mapping[str, str],
    *,
    where: str,
    needed: bool = True,
    timeout: float = _TIMEOUT,
) -> Credential | None:
    """What `docker-credential-SUFFIX get` knows about `host`; None when it knows nothing.

    A missing program is an error only when it is `needed`: a `credsStore` of another machine's desktop is
    common. Raises `CredentialsInvalid`, which never shows what the program said.
    """
    if not _SUFFIX.fullmatch(suffix):
        raise CredentialsInvalid(f"{where}: {suffix[:80]!r} cannot be the name of a credential helper")
    program = shutil.which(f"docker-credential-{suffix}", path=environ.get("PATH"))
    if program is None:
        message = (
            f"{where}: the program docker-credential-{suffix} is not on PATH; install it, or remove it there"
        )
        if needed:
            raise CredentialsInvalid(message)
        _log.warning("%s", message)
        return None
    code, output = _run(program, host, environ, where, timeout)
    if code != 0:
        if _NOT_FOUND in output.decode(errors="replace"):
            return None
        raise CredentialsInvalid(f"{where}: docker-credential-{suffix} get ended with code {code} for {host}")
    return _credential(output, f"{where}: docker-credential-{suffix}")


def _run(
    program: str, host: str, environ: Mapping[str, str], where: str, timeout: float
) -> tuple[int, bytes]:
    """Exit code and output, of which only so much is read."""
    process = subprocess.Popen(
        [program, "get"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=dict(environ),
        start_new_session=True,  # so that its children end with it
    )
    overdue = Timer(timeout, _kill, [process])
    overdue.start()
    try:
        with process:
            output = _talk(process, host)
            if len(output) > _MAX_OUTPUT:
                _kill(process)
                raise CredentialsInvalid(f"{where}: {program} printed more than {_MAX_OUTPUT} bytes")
    finally:
        overdue.cancel()
    if process.returncode == -signal.SIGKILL:
        raise CredentialsInvalid(f"{where}: {program} did not answer within {timeout:g} s")
    return process.returncode, output


def _talk(process: subprocess.Popen[bytes], host: str) -> bytes:
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError):
        process.stdin.write(host.encode())
        process.stdin.close()
    return process.stdout.read(_MAX_OUTPUT + 1)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _credential(output: bytes, where: str) -> Credential:
    try:
        answer = json.loads(output)
    except (ValueError, RecursionError):
        answer = None
    found = answer if isinstance(answer, dict) else {}
    username, secret = found.get("Username"), found.get("Secret")
    if not isinstance(username, str) or not isinstance(secret, str):
        raise CredentialsInvalid(f"{where} answered something else than {{ServerURL, Username, Secret}}")
    if username == _IDENTITY:
        return Credential(identity_token=secret, source=where)
    return Credential(username, secret, source=where)
