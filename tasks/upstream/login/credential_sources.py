"""All places where users keep credentials, in their order."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from tasks.upstream.errors import CredentialsInvalid
from tasks.upstream.login.credential_files import parse_credentials, read_credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tasks.upstream.login.credential_files import CredentialFile
    from tasks.upstream.login.credentials import Credential

_log = logging.getLogger(__name__)
_HELPER_LIFE = 600  # seconds that the answer of a credential helper is kept


class StandardCredentials:
    """`credentials_file` of the profile first, then what docker and podman are logged in with.

    Files are read once, when the first credential is asked for. Thread-safe.
    """

    def __init__(
        self,
        credentials_file: Path | None = None,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._credentials_file = credentials_file
        self._environ = environ
        self._clock = clock
        self._files: list[CredentialFile] | None = None
        self._known: dict[tuple[str, str], tuple[float, Credential | None]] = {}
        self._lock = Lock()

    def find(self, registry: str, repository: str = "") -> Credential | None:
        with self._lock:
            until, credential = self._known.get((registry, repository), (float("-inf"), None))
            if self._clock() >= until:
                credential = self._look(registry, repository)
                self._known[registry, repository] = (self._clock() + _HELPER_LIFE, credential)
            return credential

    def _look(self, registry: str, repository: str) -> Credential | None:
        if self._files is None:
            self._files = list(self._read())
        found = (each.find(registry, repository, self._environ) for each in self._files)
        return next((credential for credential in found if credential is not None), None)

    def _read(self) -> Iterator[CredentialFile]:
        """What the user names must be right; what merely lies around is skipped when it is not."""
        if self._credentials_file is not None:
            yield read_credentials(self._credentials_file, "credentialsFile")
        if text := self._environ.get("DOCKER_AUTH_CONFIG"):
            yield parse_credentials(text, "DOCKER_AUTH_CONFIG")
        for path in _standard_files(self._environ):
            try:
                if path.is_file():
                    yield read_credentials(path)
            except (CredentialsInvalid, OSError) as error:
                _log.warning("skipped: %s", error)


def _standard_files(environ: Mapping[str, str]) -> Iterator[Path]:
    home = Path(environ.get("HOME") or "/nonexistent")
    if path := environ.get("REGISTRY_AUTH_FILE"):
        yield Path(path)
    if path := environ.get("XDG_RUNTIME_DIR"):
        yield Path(path) / "containers/auth.json"
    yield Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "containers/auth.json"
    yield Path(environ.get("DOCKER_CONFIG") or home / ".docker") / "config.json"
    yield home / ".dockercfg"
