"""An OpenID provider for the tests of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.registry_server.http.auth.oidc.issuer import running_issuer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.registry_server.http.auth.oidc.issuer import Issuer


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with running_issuer() as running:
        running.keys["ec"] = ec.generate_private_key(ec.SECP256R1())
        running.publish()
        yield running
