"""What a policy makes of the signatures that were found."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from profiles.patterns.regex import IdentityPattern
from tasks.trust.judging import most_pairs
from tasks.trust.policy import Mode
from tasks.trust.verdict import VerdictOutcome
from tests.tasks.trust.material import BUNDLE_TYPE, NetworkDown, subject_of
from tests.tasks.trust.world import ISSUER, SLSA, SOURCE, SUBJECT, SignedImage, World, signer

if TYPE_CHECKING:
    from collections.abc import Sequence

BUILDER = "https://github.com/acme/builder"


def _reasons(verdict: Any) -> str:
    return " ".join([*verdict.reasons, *(why for one in verdict.signatures for why in one.reasons)])


def _provenance(image: SignedImage, builder: str = BUILDER, **more: Any) -> SignedImage:
    predicate = {"runDetails": {"builder": {"id": builder}}}
    statement = image.statement(ptype=SLSA, predicate=predicate)
    more = more or {"leaf": image.world.sigstore.leaf()}
    return image.bundle(image.world.sigstore.bundle_dsse(statement, **more))


@pytest.mark.parametrize(
    ("edges", "pairs"),
    [
        pytest.param([], 0, id="nobody"),
        pytest.param([("a", "1"), ("b", "1")], 1, id="one signer fits two authorities and counts once"),
        pytest.param([("a", "1"), ("a", "2")], 1, id="an authority that two signers fit counts once"),
        pytest.param([("a", "1"), ("a", "1")], 1, id="a key that signed twice"),
        pytest.param([("a", "1"), ("a", "2"), ("b", "1")], 2, id="the first has to make room for the second"),
        pytest.param([("a", "1"), ("b", "1"), ("c", "1"), ("b", "2"), ("c", "3")], 3, id="a chain"),
    ],
)
def test_signers_and_authorities_are_paired_off(edges: Sequence[tuple[str, str]], pairs: int) -> None:
    assert most_pairs(edges) == pairs


def test_two_of_three_needs_two_different_signers(world: World) -> None:
    three = [signer("key"), signer("keyless"), signer("notation")]
    need = {"need": 2}
    twice = world.image().cosign(key=world.key).cosign(key=world.key, tlog=False)
    assert world.ask(twice, *three, signatures=need).outcome is VerdictOutcome.REFUSED
    both = world.image().cosign(key=world.key).notary("cose")
    verdict = world.ask(both, *three, signatures=need)
    assert verdict.outcome is VerdictOutcome.VERIFIED
    assert set(verdict.authority) == {"key", "notation"}


def test_one_identity_does_not_stand_for_two_authorities_whose_patterns_it_fits(world: World) -> None:
    wide = signer("keyless", name="wide", subject=None, subjectRegexp="https://github\\.com/acme/.+")
    image = world.image().cosign(leaf=world.sigstore.leaf())
    assert world.ask(image, signer("keyless"), wide, signatures={"need": 2}).outcome is VerdictOutcome.REFUSED
    image.cosign(leaf=world.sigstore.leaf("https://github.com/acme/other", ISSUER))
    assert (
        world.ask(image, signer("keyless"), wide, signatures={"need": 2}).outcome is VerdictOutcome.VERIFIED
    )


@pytest.mark.parametrize(
    ("pattern", "admitted"),
    [
        (r"https://github\.com/acme/.+", True),
        (r"https://github\.com/acme", False),
        (r"github\.com/acme/.+", False),
        (r"https://github\.com/evil/.+|https://github\.com/acme/.+", True),
        (r"https://github\.com/evil|.*/v1\.0\.0", True),
        (r"https://github\.com/evil|v1\.0\.0", False),
    ],
)
def test_patterns_hold_for_the_whole_identity(world: World, pattern: str, admitted: bool) -> None:  # noqa: FBT001 - a table
    image = world.image().cosign(leaf=world.sigstore.leaf())
    who = signer("keyless", subject=None, subjectRegexp=pattern)
    assert world.ask(image, who).admits is admitted


def test_a_pattern_is_not_found_inside_of_a_longer_identity(world: World) -> None:
    image = world.image().cosign(leaf=world.sigstore.leaf(f"https://evil.test/{SUBJECT}", ISSUER))
    who = signer("keyless", subject=None, subjectRegexp=r"https://github\.com/acme/.+")
    assert not world.ask(image, who).admits


def test_no_identity_makes_a_pattern_slow() -> None:
    """With `re` each of these would take hours; here a step for each letter."""
    for text in (r"(a+)+b", r"https://.*/.*/.*/.*x", r"(a|a)*b"):
        pattern = IdentityPattern.parse(text)
        assert not pattern.matches("https://" + "a/" * 1000 + "a" * 40)


def test_extensions_of_the_certificate_have_to_agree(world: World) -> None:
    text = b"https://github.com/acme/app"
    extension = ("1.3.6.1.4.1.57264.1.12", bytes([0x0C, len(text)]) + text)
    image = world.image().cosign(leaf=world.sigstore.leaf(extra=[extension]))
    right = signer("keyless", extensions={"sourceRepositoryUri": text.decode()})
    wrong = signer("keyless", extensions={"sourceRepositoryUri": "https://github.com/acme/other"})
    absent = signer("keyless", extensions={"runnerEnvironment": "github-hosted"})
    assert [world.ask(image, who).admits for who in (right, wrong, absent)] == [True, False, False]


@pytest.mark.parametrize("form", ["bundle", "layer"])
def test_a_required_attestation_has_to_be_there(world: World, form: str) -> None:
    wanted = [{"predicateType": SLSA, "from": ["keyless"]}]
    image = world.image().cosign(leaf=world.sigstore.leaf())
    assert "0 of 1 required attestations" in _reasons(
        world.ask(image, signer("keyless"), attestations=wanted)
    )
    if form == "bundle":
        _provenance(image)
    else:
        image.attestation()
    assert world.ask(image, signer("keyless"), attestations=wanted).outcome is VerdictOutcome.VERIFIED


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        (f"predicate.runDetails.builder.id == '{BUILDER}'", True),
        ("predicate.runDetails.builder.id == 'https://evil'", False),
        ("predicate.runDetails.builder.id", False),
        ("predicate.nothing", False),
        ("`1`", False),
        ("'true'", False),
        ("starts_with(predicate.nothing, 'x')", False),
        (f"identity == '{SUBJECT}' && issuer == '{ISSUER}'", True),
        ("statement.predicateType == 'https://slsa.dev/provenance/v1'", True),
        ("starts_with(subject_digest, 'sha256:')", True),
    ],
)
def test_only_a_condition_that_is_exactly_true_is_met(world: World, condition: str, holds: bool) -> None:  # noqa: FBT001 - a table
    image = _provenance(world.image())
    wanted = [{"predicateType": SLSA, "from": ["keyless"], "condition": condition}]
    verdict = world.ask(image, signer("keyless"), signatures={"need": 0}, attestations=wanted)
    assert verdict.admits is holds


def test_an_attestation_by_somebody_else_is_none(world: World) -> None:
    image = _provenance(world.image(), key=ec.generate_private_key(ec.SECP256R1()))
    wanted = [{"predicateType": SLSA, "from": ["key"]}]
    assert not world.ask(image, signer("key"), signatures={"need": 0}, attestations=wanted).admits


def test_an_attestation_counts_as_signature_only_where_the_rule_says_so(world: World) -> None:
    image = _provenance(world.image())
    assert "is not a signature" in _reasons(world.ask(image, signer("keyless")))
    assert world.ask(image, signer("keyless"), signatures={"acceptPredicates": [SLSA]}).admits


def test_the_minimum_age_is_that_of_the_verified_time(world: World) -> None:
    image = world.image().cosign(leaf=world.sigstore.leaf())
    policies = world.policies({"match": ["**"], "signatures": {"from": [signer("keyless")], "minAge": "48h"}})
    verdict = image.judged(policies)
    assert not verdict.admits
    assert "the policy asks for 48.0 h" in _reasons(verdict)
    assert image.judged(policies, now=world.sigstore.now + timedelta(hours=48)).admits


def test_without_a_verified_time_there_is_no_age(world: World) -> None:
    image = world.image().cosign(key=world.key)
    verdict = world.ask(image, signer("key"), signatures={"minAge": "1s"})
    assert "nothing vouches for its time" in _reasons(verdict)
    logged = world.ask(image, signer("logged"), signatures={"minAge": "1s"})
    assert logged.admits


def test_signed_annotations_have_to_agree(world: World) -> None:
    sigstore = world.sigstore
    image = world.image()
    statement = image.statement(annotations={"env": "prod"})
    image.bundle(sigstore.bundle_dsse(statement, sigstore.leaf()))
    for value, admitted in (("prod", True), ("test", False)):
        verdict = world.ask(image, signer("keyless"), signatures={"annotations": {"env": value}})
        assert verdict.admits is admitted


@pytest.mark.parametrize(
    ("identity", "claimed", "admitted"),
    [
        ("ignore", "registry.test/other", True),
        ("repository", SOURCE, True),
        ("repository", f"{SOURCE}:v9", True),
        ("repository", f"{SOURCE}-evil", False),
        ("exact", f"{SOURCE}:v1.0.0", True),
        ("exact", f"{SOURCE}:v9", False),
        ("exact", SOURCE, False),
        ({"prefix": "ghcr.io/acme/", "to": "registry.test:5000/a/"}, "registry.test:5000/a/app", True),
        ({"prefix": "ghcr.io/acme/", "to": "registry.test:5000/a/"}, SOURCE, False),
    ],
)
def test_the_name_in_the_signature(world: World, identity: Any, claimed: str, admitted: bool) -> None:  # noqa: FBT001 - a table
    image = world.image().cosign(key=world.key, ref=claimed)
    verdict = world.ask(image, signer("key"), signatures={"identity": identity})
    assert verdict.admits is admitted


def test_a_warning_admits_and_says_so(world: World) -> None:
    verdict = world.ask(world.image(), signer("key"), mode="warn")
    assert verdict.outcome is VerdictOutcome.WARNED
    assert verdict.admits
    assert verdict.reasons == ("it has no signature",)


@pytest.mark.parametrize(
    "sign",
    [
        pytest.param(lambda image: image.cosign(key=ec.generate_private_key(ec.SECP256R1())), id="cosign"),
        pytest.param(
            lambda image: image.bundle(
                image.world.sigstore.bundle_dsse(image.statement(), key=image.world.key)
            ),
            id="bundle",
        ),
        pytest.param(lambda image: image.notary("jws"), id="JWS"),
        pytest.param(lambda image: image.notary("cose"), id="COSE"),
    ],
)
def test_presence_is_never_called_verified(world: World, sign: Any) -> None:
    rule = {"match": ["**"], "mode": "presence"}
    image = world.image()
    assert image.judged(world.policies(rule)).outcome is VerdictOutcome.REFUSED
    sign(image)
    verdict = image.judged(world.policies(rule))
    assert verdict.outcome is VerdictOutcome.PRESENT
    assert verdict.admits
    assert not verdict.who
    assert "not verified" in verdict.to_json()["outcome"]


@pytest.mark.parametrize(
    "sign",
    [
        pytest.param(_provenance, id="an attestation"),
        pytest.param(lambda image: image.attestation(), id="an older attestation"),
        pytest.param(
            lambda image: image.cosign(claimed=subject_of(b"x")["digest"], key=image.world.key), id="other"
        ),
        pytest.param(
            lambda image: image.repository.attach(
                subject_of(image.body), b"{}", "text/spdx", artifact_type="a/sbom"
            ),
            id="an SBOM",
        ),
        pytest.param(
            lambda image: image.repository.attach(
                subject_of(image.body), b"{}", BUNDLE_TYPE, artifact_type=BUNDLE_TYPE
            ),
            id="an empty bundle",
        ),
    ],
)
def test_presence_needs_something_that_is_a_signature_of_the_image(world: World, sign: Any) -> None:
    image = world.image()
    sign(image)
    verdict = image.judged(world.policies({"match": ["**"], "mode": "presence"}))
    assert verdict.outcome is VerdictOutcome.REFUSED


def test_skip_looks_nothing_up(world: World) -> None:
    image = world.image()
    verdict = image.judged(world.policies({"match": ["**"], "mode": "skip"}))
    assert verdict.outcome is VerdictOutcome.SKIPPED
    assert not image.repository.asked


def _rule(match: str, mode: str = "skip", **more: Any) -> dict[str, Any]:
    signatures = {"from": [signer("key")]} if mode in ("enforce", "warn") else {}
    return {"match": [match], "mode": mode, "signatures": signatures} | more


def test_the_first_rule_that_matches_holds_and_what_none_matches_stays_out(world: World) -> None:
    policies = world.policies(_rule("ghcr.io/acme/app", "enforce"), _rule("ghcr.io/acme/**"))
    assert policies.for_image("ghcr.io/acme/app", "v1").mode is Mode.ENFORCE
    assert policies.for_image("ghcr.io/acme/tools/x", "v1").mode is Mode.SKIP
    nothing = policies.for_image("docker.io/library/alpine", "v1")
    image = world.image().cosign(key=world.key)
    assert nothing.mode is Mode.ENFORCE
    assert not nothing.authorities
    verdict = image.judged(world.policies(_rule("other/**")))
    assert verdict.reasons == ("no rule of the profile admits this image",)


def test_the_default_can_be_to_accept(world: World) -> None:
    policies = world.policies(default={"require": "accept"})
    assert policies.for_image("docker.io/library/alpine", "3").mode is Mode.SKIP


def test_a_digest_gets_no_rule_that_is_milder_for_tags(world: World) -> None:
    strict = world.policies(_rule("**", "enforce", tags=["v*"]), _rule("**"))
    mild = world.policies(_rule("**", "skip", tags=["dev-*"]), _rule("**", "enforce"))
    assert strict.for_image(SOURCE, None).mode is Mode.ENFORCE
    assert strict.for_image(SOURCE, "edge").mode is Mode.SKIP
    assert mild.for_image(SOURCE, None).mode is Mode.ENFORCE
    assert mild.for_image(SOURCE, "dev-1").mode is Mode.SKIP


@pytest.mark.parametrize("call", ["referrers", "manifest", "blob", "tags"])
@pytest.mark.parametrize("mode", ["enforce", "warn", "presence"])
def test_a_network_error_is_an_error_and_never_unsigned(world: World, call: str, mode: str) -> None:
    image = world.image().notary("jws").cosign(key=ec.generate_private_key(ec.SECP256R1()))
    image.repository.down = (call,)
    rule = _rule("**", mode)
    if mode == "presence" and call == "tags":
        pytest.skip("the referrer is enough, tags are not asked for")
    with pytest.raises(NetworkDown):
        image.judged(world.policies(rule), thorough=True)


def test_it_stops_asking_when_it_has_enough(world: World) -> None:
    image = world.image()
    image.bundle(world.sigstore.bundle_dsse(image.statement(), key=world.key))
    image.cosign(key=world.key)
    policies = world.policies(_rule("**", "enforce"))
    quick, whole = image.judged(policies), image.judged(policies, thorough=True)
    assert (len(quick.signatures), len(whole.signatures)) == (1, 2)
    assert json.dumps(quick.to_json())
