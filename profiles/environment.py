"""What environment variables say of a profile: where it listens, and where the store and the credentials are.

A profile in a ConfigMap is the same everywhere; these differ from place to place. They win over the file, so
that one variable says it for every command that reads the profile.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from profiles.errors import ProfileError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from profiles.model.profile import Profile

HTTP_ADDRESS: Final = "MIRRORFLOW_HTTP_ADDRESS"
HTTP_PORT: Final = "MIRRORFLOW_HTTP_PORT"
ROOT_DIRECTORY: Final = "MIRRORFLOW_ROOT_DIRECTORY"
CREDENTIALS_FILE: Final = "MIRRORFLOW_CREDENTIALS_FILE"
VARIABLES: Final = {
    HTTP_ADDRESS: "http.address",
    HTTP_PORT: "http.port",
    ROOT_DIRECTORY: "storage.rootDirectory",
    CREDENTIALS_FILE: "sync.credentialsFile",
}


class EnvironmentInvalid(ProfileError):
    """A variable has a value that its key of the profile could not have."""


def with_environment(profile: Profile, environment: Mapping[str, str] = os.environ) -> Profile:
    """The profile with what the variables say; an empty one says nothing. Raises `EnvironmentInvalid`.

    Relative paths begin at the working directory, as those of a command line.
    """
    http, storage, sync = (dict[str, Any]() for _ in range(3))
    if address := environment.get(HTTP_ADDRESS, "").strip():
        http["address"] = address
    if port := environment.get(HTTP_PORT, "").strip():
        http["port"] = _port(port)
    if root := environment.get(ROOT_DIRECTORY, "").strip():
        storage["root_directory"] = Path(root).expanduser().absolute()
    if credentials := environment.get(CREDENTIALS_FILE, "").strip():
        sync["credentials_file"] = Path(credentials).expanduser().absolute()
    changed = {
        "http": profile.http.model_copy(update=http),
        "storage": profile.storage.model_copy(update=storage),
        "sync": profile.sync.model_copy(update=sync),
    }
    return profile.model_copy(update=changed) if http or storage or sync else profile


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) > 65535:
        # Kubernetes sets NAME_PORT=tcp://10.0.0.1:8080 for a service of that name.
        raise EnvironmentInvalid(f"{HTTP_PORT}: {text[:60]!r} is not a port; write a number from 0 to 65535")
    return int(text)
