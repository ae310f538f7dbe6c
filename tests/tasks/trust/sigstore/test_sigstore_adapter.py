"""What the adapter takes from inside of sigstore: a new version that moves it has to fail here, in words."""

from __future__ import annotations

import importlib.metadata
import inspect
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import sigstore.models
import sigstore.verify.verifier
from sigstore import dsse
from sigstore._internal.timestamp import TimestampVerificationResult

from tasks.trust.errors import Refused, TrustBroken
from tasks.trust.sigstore.adapter import CheckingVerifier, RekorAnnotation, SetOnlyEntry
from tasks.trust.sigstore.root import SigstoreRoot, Window
from tests.tasks.trust.chains import NOW
from tests.tasks.trust.world import signer

if TYPE_CHECKING:
    from tests.tasks.trust.world import SignedImage, World


def test_sigstore_is_of_the_version_that_the_adapter_was_written_for() -> None:
    assert importlib.metadata.version("sigstore").startswith("4.5.")


@pytest.mark.parametrize(
    ("owner", "name", "parameters"),
    [
        (sigstore.models.TransparencyLogEntry, "_validate", ["self"]),
        (sigstore.models.TransparencyLogEntry, "_verify", ["self", "keyring"]),
        (sigstore.models.TransparencyLogEntry, "_verify_set", ["self", "keyring"]),
        (sigstore.verify.verifier.Verifier, "_establish_time", ["self", "bundle"]),
        (sigstore.verify.verifier.Verifier, "_verify_timestamp_authority", ["self", "bundle"]),
        (
            sigstore.verify.verifier.Verifier,
            "_verify_chain_at_time",
            ["self", "certificate", "timestamp_result"],
        ),
        (sigstore.verify.verifier.Verifier, "_verify_common_signing_cert", ["self", "bundle", "policy"]),
        (sigstore.verify.verifier.Verifier, "verify_dsse", ["self", "bundle", "policy"]),
        (dsse, "_verify", ["key", "evp"]),
    ],
)
def test_the_private_methods_are_there(owner: Any, name: str, parameters: list[str]) -> None:
    assert list(inspect.signature(getattr(owner, name)).parameters) == parameters


def test_the_library_calls_what_the_adapter_overrides() -> None:
    source = inspect.getsource(sigstore.verify.verifier.Verifier._verify_common_signing_cert)
    assert "self._establish_time(bundle)" in source
    assert "self._verify_chain_at_time(cert, vts)" in source
    assert "entry._verify(" in source
    assert [each.name for each in TimestampVerificationResult.__dataclass_fields__.values()] == [
        "source",
        "time",
    ]


@pytest.mark.parametrize("name", ["production", "staging"])
def test_the_built_in_roots_are_there_and_complete(name: Any) -> None:
    root = SigstoreRoot.builtin(name)
    assert root.logs
    assert root.timestamp_authorities
    assert isinstance(root.verifier, CheckingVerifier)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}x", b'{"tlogs": 1}', b'{"trustedRoot": []}'])
def test_what_is_no_root_is_our_error(content: bytes) -> None:
    with pytest.raises(TrustBroken, match="not a Sigstore trust root"):
        SigstoreRoot.from_json(content)


@pytest.mark.parametrize(
    "without",
    [
        pytest.param("tlogs", id="no log"),
        pytest.param("ctlogs", id="no log of certificates"),
        pytest.param("certificateAuthorities", id="no CA"),
    ],
)
def test_a_root_that_lacks_a_part_verifies_nobody(world: World, without: str) -> None:
    document = world.sigstore.trusted_root() | {without: []}
    (world.folder / "part.json").write_text(json.dumps(document))
    assert not _judged(world, {"file": "part.json"}).admits


def test_a_root_without_timestamp_authorities_takes_the_logs_time(world: World) -> None:
    (world.folder / "part.json").write_text(json.dumps(world.sigstore.trusted_root(tsa=False)))
    assert _judged(world, {"file": "part.json"}, tsa=True).admits


@pytest.mark.parametrize("part", ["tlogs", "certificateAuthorities"])
@pytest.mark.parametrize(
    ("start", "end", "admitted"), [(-1, 0, True), (0, 1, True), (-2, -1, False), (1, 2, False)]
)
def test_logs_and_cas_are_believed_for_their_time_only(
    world: World,
    part: str,
    start: int,
    end: int,
    admitted: bool,  # noqa: FBT001 - a table
) -> None:
    now = world.sigstore.now
    window = {"start": _at(now, start), "end": _at(now, end)}
    document = world.sigstore.trusted_root()
    for each in document[part]:
        (each["publicKey"] if part == "tlogs" else each)["validFor"] = window
    (world.folder / "part.json").write_text(json.dumps(document))
    assert _judged(world, {"file": "part.json"}).admits is admitted


def _at(now: Any, hours: int) -> str:
    return str((now + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ"))


def _judged(world: World, root: dict[str, Any], **more: Any) -> Any:
    from profiles.model.trust.verification import VerificationPart
    from tasks.trust.compiling import Policies

    rule = {"match": ["**"], "signatures": {"from": [signer("keyless", root="part")]}}
    document = {"trust": {"sigstore": {"part": root}}, "verify": {"rules": [rule]}}
    part = VerificationPart.model_validate(document, context={"folder": world.folder})
    image: SignedImage = world.image().cosign(leaf=world.sigstore.leaf(), **more)
    return image.judged(Policies(part.trust, part.verify))


def test_a_window_has_both_its_ends() -> None:
    window = Window(NOW, NOW + timedelta(days=1))
    moments = [NOW - timedelta(seconds=1), NOW, NOW + timedelta(days=1), NOW + timedelta(days=1, seconds=1)]
    assert [window.holds(moment) for moment in moments] == [False, True, True, False]
    assert Window(None, None).holds(NOW)


def test_the_annotation_is_an_entry_with_promise_and_without_proof(world: World) -> None:
    text = world.sigstore.legacy_layer(world.image().digest, key=world.key)[1]["annotations"]
    rekor = RekorAnnotation.parse(text["dev.sigstore.cosign/bundle"])
    entry = rekor.entry()
    assert isinstance(entry, SetOnlyEntry)
    assert rekor.when == world.sigstore.now


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"Payload": {}}', '{"SignedEntryTimestamp": "QQ==", "Payload": {"body": 1}}']
)
def test_an_annotation_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        RekorAnnotation.parse(text)


@pytest.mark.parametrize("kind", ["intoto", "hashedrekord", "rekord", "dsse"])
def test_attestations_are_only_taken_from_entries_of_the_right_kind(world: World, kind: str) -> None:
    """The body says dsse: an entry that is announced as something else is refused."""
    image = world.image()
    statement = image.statement()
    document = world.sigstore.bundle_dsse(statement, world.sigstore.leaf(), entry_kind=kind)
    assert world.ask(image.bundle(document), signer("keyless")).admits is (kind == "dsse")
