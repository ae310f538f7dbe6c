"""What a server needs to know; plain data, so that a child process can be given it as arguments."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from registry_server.http.push.push_limits import PushLimits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from registry_server.http.auth.access_options import AccessOptions
    from registry_server.http.extension import ExtensionName
    from registry_server.http.pull_through.webhook_client import OnMissOptions
    from registry_server.store.filesystem.shared_filesystem import SharedFileSystem
    from registry_server.store.remote_storage import RemoteStorage


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files. With a `client_ca`, clients must present a certificate that it signed."""

    cert: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """What to serve and where. `subpaths` are zot's: first path segment of a repository -> its own root."""

    root: Path
    subpaths: Mapping[str, Path] = field(default_factory=dict)
    address: str = "127.0.0.1"
    port: int = 5000
    workers: int = 1
    tls: Tls | None = None
    access_log: Path | None = None
    audit_log: Path | None = None
    audit_pulls: bool = False
    access: AccessOptions | None = None  # None: no control, whoever reaches the port may do what is possible
    trusted_proxies: tuple[str, ...] = ()  # addresses and networks whose X-Forwarded-For is believed
    # Where those proxies (nginx) send files from, by their absolute path below it. "": nowhere.
    accel_redirect: str = ""
    header_timeout: float = 30.0  # seconds for the head of a request, also on a connection that is kept open
    writable: bool = False  # whether clients may push and delete at all
    limits: PushLimits = field(default_factory=PushLimits)
    shared_file_system: SharedFileSystem = "auto"
    remote: RemoteStorage | None = None  # where the store is, if not in `root`
    # Or a file with that as JSON, for a child process. None: what is not here is not here.
    on_miss: OnMissOptions | Path | None = None
    extension: ExtensionName | None = None

    @property
    def signs_in(self) -> bool:
        """Whether a client has to show who it is: by a certificate, or by a password."""
        by_certificate = self.tls is not None and self.tls.client_ca is not None
        return by_certificate or (self.access is not None and self.access.htpasswd is not None)

    def arguments(self, *, access: str = "") -> list[str]:
        """For `python -m registry_server`; `access` is a file with `self.access` as JSON."""
        given = ["--root", str(self.root), "--address", self.address, "--port", str(self.port)]
        given += ["--workers", str(self.workers)]
        for path, root in self.subpaths.items():
            given += ["--subpath", f"{path}={root}"]
        if self.tls:
            given += ["--tls-cert", str(self.tls.cert), "--tls-key", str(self.tls.key)]
            given += ["--tls-client-ca", str(self.tls.client_ca)] if self.tls.client_ca else []
        for network in self.trusted_proxies:
            given += ["--trusted-proxy", network]
        given += ["--accel-redirect", self.accel_redirect] if self.accel_redirect else []
        if self.access_log:
            given += ["--access-log", str(self.access_log)]
        if self.audit_log:
            given += ["--audit-log", str(self.audit_log)]
            given += ["--audit-pulls"] if self.audit_pulls else []
        if access:
            given += ["--access", access]
        given += ["--header-timeout", f"{self.header_timeout:g}"]
        given += ["--writable"] if self.writable else []
        for limit in self.limits.arguments():
            given += ["--limit", limit]
        if self.shared_file_system != "auto":
            given += ["--shared-file-system", self.shared_file_system]
        given += ["--object-storage", self.remote.to_json()] if self.remote else []
        assert self.on_miss is None or isinstance(self.on_miss, Path), "the secret is no argument"
        given += ["--on-miss", str(self.on_miss)] if self.on_miss else []
        given += ["--extension", str(self.extension)] if self.extension else []
        return given
