"""RFC 3161 timestamps: real tokens, their authorities, and what they prove of a chain's validity."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from tasks.trust.errors import Refused, refusing
from tasks.trust.notation.timestamps import verify_token
from tests.tasks.trust.chains import ca, certificates, leaf
from tests.tasks.trust.material import DATA, fixture_module, needs_material
from tests.tasks.trust.world import signer

if TYPE_CHECKING:
    from tests.tasks.trust.world import World


TOKENS = sorted(DATA.glob("tspclient-go/*/*.p7s")) + sorted(DATA.glob("notation-core-go/timestamp/*.p7s"))


@needs_material
@pytest.mark.parametrize("path", TOKENS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_real_timestamps_are_taken_when_nothing_is_wrong_with_them(path: Any) -> None:
    roots = [
        *x509.load_pem_x509_certificates((DATA / "tspclient-go/testdata/GlobalSignRootCA.crt").read_bytes()),
        x509.load_der_x509_certificate(
            (DATA / "notation/config/timestamp/globalsignTSARoot.cer").read_bytes()
        ),
    ]
    with refusing(""):
        if path.stem == "TimeStampToken":
            assert verify_token(path.read_bytes(), b"notation", roots).latest.year == 2021
            with pytest.raises(Exception, match="Mismatch"):
                verify_token(path.read_bytes(), b"notation2", roots)
            return
    with pytest.raises(Refused), refusing("bad"):
        verify_token(path.read_bytes(), b"notation", roots)


@needs_material
def test_an_authority_of_the_tokens_own_does_not_vouch_for_it(world: World) -> None:
    stranger = fixture_module().FakeSigstore()
    response = fixture_module().tsp.TimeStampResp.load(stranger.timestamp(b"x"))
    token = response["time_stamp_token"].dump()
    assert verify_token(token, b"x", [stranger.tsa_root]).latest >= stranger.now
    with pytest.raises(Refused), refusing("bad"):
        verify_token(token, b"x", [world.sigstore.tsa_root])


def test_a_timestamp_outside_of_the_chains_validity_does_not_help(world: World) -> None:
    long_ago = world.sigstore.now - timedelta(days=20)
    image = world.image().notary("cose", tsa=lambda message: world.sigstore.timestamp(message, when=long_ago))
    verdict = world.ask(image, signer("timestamped"))
    assert "at the time of the timestamp" in verdict.signatures[0].reasons[0]


def test_an_expired_certificate_needs_a_timestamp_of_its_time(own: World) -> None:
    world = own
    now = world.sigstore.now
    root = ca("root", start=now - timedelta(days=20), end=now + timedelta(days=20))
    made = leaf(root, start=now - timedelta(days=10), end=now - timedelta(days=1))
    pem = fixture_module().serialization.Encoding.PEM
    (world.folder / "ca.pem").write_bytes(root.certificate.public_bytes(pem))
    by = (made.key, certificates(made, root))
    then = lambda message: world.sigstore.timestamp(message, when=now - timedelta(days=2))  # noqa: E731 - one use
    stamped = world.image().notary("cose", signer=by, tsa=then)
    assert world.ask(stamped, signer("timestamped", verifyTimestamp="afterCertExpiry")).admits
    assert not world.ask(stamped, signer("notation")).admits
    assert not world.ask(world.image().notary("cose", signer=by), signer("timestamped")).admits
