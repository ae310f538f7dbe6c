"""The port of our own Prefect server: the usual one, where people look for the UI, or any that is free."""

from __future__ import annotations

import socket
from contextlib import suppress

from registry_server.oci.errors import MirrorflowError

ADDRESS = "127.0.0.1"
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


def choose_port(wanted: int | None) -> ChosenPort:
    """None: 4200, or any free port when that one is taken; 0: any; another one must be free.

    Raises PrefectServerError.
    """
    if wanted:
        if not _is_free(wanted):
            raise PrefectServerError(
                f"port {wanted} on {ADDRESS} is taken, so the Prefect server cannot start there: stop "
                "what uses it, choose another port, or set PREFECT_API_URL if it is a Prefect server"
            )
        return ChosenPort(wanted)
    if wanted is None and (claim := _claim_usual_port()) is not None:
        return ChosenPort(USUAL_PORT, claim)
    with socket.create_server((ADDRESS, 0)) as probe:
        return ChosenPort(int(probe.getsockname()[1]))


def _claim_usual_port() -> socket.socket | None:
    claim = socket.socket(socket.AF_UNIX)
    with suppress(OSError):
        claim.bind(f"\0mirrorflow-prefect-{USUAL_PORT}")  # Linux's abstract names end with their holder
        if _is_free(USUAL_PORT):
            return claim
    claim.close()
    return None


def _is_free(port: int) -> bool:
    try:
        with socket.create_server((ADDRESS, port)):
            return True
    except OSError:
        return False
