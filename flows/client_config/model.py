"""What a client is given: files with their places, and what is left to do by hand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from registry_server.oci.errors import MirrorflowError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from flows.client_config.routes import Route, UpstreamHost


class FileInTheWay(MirrorflowError):
    """A file is there already and says something else."""


@dataclass(frozen=True, slots=True)
class ClientFile:
    """`path` is absolute, on the client's machine."""

    path: str
    content: str


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """`steps` are sentences for a person, in their order."""

    files: tuple[ClientFile, ...]
    steps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Mirror:
    """The mirror as clients see it. `host` has the port where one is needed; `authority` is the PEM text of
    the CA that they have to trust, "" for one that they know.

    `names_upstream`: it understands `?ns=`. `fallback`: a client may go on to the upstream registry.
    `hub_host`: where it has Docker Hub's names at the root path (`http.vhosts`), "" without such a host.
    """

    scheme: str
    host: str
    authority: str = ""
    wants_certificate: bool = False
    wants_login: bool = False
    names_upstream: bool = True
    fallback: bool = True
    hub_host: str = ""

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}"

    @property
    def plain(self) -> bool:
        return self.scheme == "http"

    def trust_files(self, folder: str) -> tuple[ClientFile, ...]:
        """The CA, in a folder of the client's kind."""
        return (ClientFile(f"{folder}/ca.crt", self.authority),) if self.authority else ()

    def trust_steps(self, folder: str) -> tuple[str, ...]:
        if not self.wants_certificate:
            return ()
        step = (
            "The server requires a certificate of each client (http.tls.cacert): put it, and its key, "
            f"into {folder} as client.cert and client.key (mode 0600)."
        )
        return (step,)


def write_files(files: Sequence[ClientFile], folder: Path) -> list[Path]:
    """Write them below `folder` ("/" is this machine itself); returns those that were written.

    What is there already and says the same stays. Raises `FileInTheWay` before anything is written, OSError.
    """
    targets = [(folder / file.path.lstrip("/"), file.content) for file in files]
    for path, content in targets:
        if path.exists() and path.read_text() != content:
            raise FileInTheWay(
                f"{path} is there already and says something else: put into it what `mirrorflow client` "
                "prints without --write, or move it away"
            )
    written = []
    for path, content in targets:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
            written.append(path)
    return written


def quoted(text: str) -> str:
    """A string of TOML: of what stands in hosts, names and paths, JSON escapes the same in the same way."""
    return json.dumps(text, ensure_ascii=False)


def unreachable(mirror: Mirror, host: UpstreamHost, route: Route) -> str:
    """That a client can only put something before a name, and this route needs more."""
    there, here = (name or "its names" for name in (route.there, route.here))
    return (
        f"{there} of {host.name} is {here} here, which this client cannot make of it: pull it as "
        f"{mirror.host}/{route.here or 'NAME'}, or add onDemand to an entry, and the mirror understands ?ns=."
    )
