"""The port of our own Prefect server: the usual one, where people look for the UI, or any that is free."""

from __future__ import annotations

import socket
from contextlib import suppress

from registry_server.oci.errors import MirrorflowError

ADDRESS = "127.0.0.1"
_EVERYWHERE = {"0.0.0.0": ADDRESS, "::": "[::1]"}  # noqa: S104 - compared, to find how to reach it from here
USUAL_PORT = 4200


class PrefectServerError(MirrorflowError):
    """A Prefect server did not start, or cannot be used."""


class ChosenPort:
    """`number`, and until `close()` the claim on it. A server begins to listen seconds after it is started:
    two that start at once would both find the usual port free."""

    def __init__(self, number: int, claim: socket.socket | None = None) -> None:
        self.number = number
        self._claim = claim

    def close(self) -> None:
        if self._claim is not None:
            self._claim.close()


def reached_at(host: str) -> str:
    """How this machine reaches a server that listens on `host`, as it stands in a URL."""
    return _EVERYWHERE.get(host, f"[{host}]" if ":" in host else host)


def choose_port(wanted: int | None, host: str = ADDRESS) -> ChosenPort:
    """None: 4200, or any free port when that one is taken; 0: any; another one must be free on `host`.

    Raises PrefectServerError.
    """
    if wanted:
        if not _is_free(wanted, host):
            raise PrefectServerError(
                f"port {wanted} on {host} is taken, so the Prefect server cannot start there: stop "
                "what uses it, choose another port, or set PREFECT_API_URL if it is a Prefect server"
            )
        return ChosenPort(wanted)
    if wanted is None and (claim := _claim_usual_port(host)) is not None:
        return ChosenPort(USUAL_PORT, claim)
    with _listening(host, 0) as probe:
        return ChosenPort(int(probe.getsockname()[1]))


def _claim_usual_port(host: str) -> socket.socket | None:
    claim = socket.socket(socket.AF_UNIX)
    with suppress(OSError):
        claim.bind(f"\0mirrorflow-prefect-{USUAL_PORT}")  # Linux's abstract names end with their holder
        if _is_free(USUAL_PORT, host):
            return claim
    claim.close()
    return None


def _is_free(port: int, host: str) -> bool:
    try:
        with _listening(host, port):
            return True
    except OSError:
        return False


def _listening(host: str, port: int) -> socket.socket:
    return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
