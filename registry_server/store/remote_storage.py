"""Where a store is that is not in a folder: plain data, for the profile and for arguments of processes."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from registry_server.store.errors import StoreError
from registry_server.store.objects.storage_driver import StorageDriver


@dataclass(frozen=True, slots=True)
class RemoteStorage:
    """Where a store is that is not in a folder. Nothing here is secret.

    `locks_file` holds the URL of a PostgreSQL for the locks of several hosts, or else the environment
    variable `locks_variable` does. Without either, locks are files, for the processes of one host.

    `redirect_seconds`: how long an address is good for that a client is sent to for a blob; 0: the registry
    server hands out all bytes itself.
    """

    driver: StorageDriver
    locks_file: str = ""
    locks_variable: str = ""
    redirect_seconds: float = 0.0

    def to_json(self) -> str:
        body = asdict(self)
        del body["driver"]["limits"]
        return json.dumps(body)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises `StoreError`."""
        try:
            body: dict[str, Any] = json.loads(text)
            return cls(**{**body, "driver": StorageDriver(**body["driver"])})
        except (ValueError, TypeError, LookupError) as error:
            raise StoreError(f"{text!r} does not say where the store is: {error}") from None

    @property
    def is_for_several_hosts(self) -> bool:
        return bool(self.locks_file or self.locks_variable)

    def locks_url(self) -> str:
        """The URL, which holds a password. Raises `StoreError`."""
        if not self.locks_file:
            found = os.environ.get(self.locks_variable, "")
            where = f"the environment variable {self.locks_variable} (storage.locks.postgresUrlVariable)"
        else:
            where = f"{self.locks_file} (storage.locks.postgresUrlFile)"
            try:
                found = Path(self.locks_file).read_text()
            except (OSError, UnicodeDecodeError) as error:
                raise StoreError(f"{where} cannot be read: {error}") from None
        if not found.strip():
            raise StoreError(f"{where} is empty; write postgresql://user:password@host/database")
        return found.strip()
