"""TLS towards an upstream."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.upstream.options import RegistryOptions


def make_context(options: RegistryOptions) -> ssl.SSLContext:
    """One for all threads of a run: loading the system's CAs takes some 10 ms."""
    context = ssl.create_default_context()
    if not options.tls_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
