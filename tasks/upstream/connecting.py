"""Which client an upstream gets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks.upstream.registry import UpstreamRegistry

if TYPE_CHECKING:
    from pathlib import Path

    from tasks.upstream.login.credentials import Credentials
    from tasks.upstream.options import RegistryOptions


def connect(
    options: RegistryOptions,
    credentials: Credentials,
    *,
    records: Path | None = None,
    searching: bool = True,
    **more: Any,
) -> UpstreamRegistry:
    """The client for the kind of upstream that the urls name; `more` as for `UpstreamRegistry`."""
    if options.urls[0].kind == "helm":
        from tasks.upstream.helm.repository import HelmRepository

        return HelmRepository(options, credentials, records=records, searching=searching, **more)
    return UpstreamRegistry(options, credentials, **more)
