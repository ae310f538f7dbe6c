"""`audit` as a user types it: every stored image by today's policies, and no upstream to be asked."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from flows.entries import open_store
from profiles.loading import load_profile
from registry_server.oci.digest import Digest
from registry_server.oci.manifest import parse_manifest
from registry_server.oci.media_types import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.store import Store
from tasks.audit_statement import PREDICATE
from tasks.auditing import audit
from tasks.policy_sweep import sweep
from tasks.stored_images import StoredImages
from tasks.trust.by_key import KeyAuthority
from tasks.trust.candidates import Image, SigstoreBundle
from tasks.trust.errors import Refused
from tasks.trust.keys import TrustedKey
from tests.tasks.companies import APP
from tests.tasks.runs import mirror, opened
from tests.tasks.trust.attacker import (
    TAR,
    attacked,
    config_of,
    manifest_of,
    pem_of,
    policy,
    sign,
)
from tests.tasks.trust.enforced import Upstream, bundled, cases, docker_registry, fill
from tests.tasks.trust.enforced import policy as policy_of

if TYPE_CHECKING:
    from pathlib import Path

    from registry_server.oci.descriptor import Descriptor
    from tests.tasks.trust.attacker import Attack
    from tests.tasks.trust.world import World

# Nobody is asked, and Prefect is not even loaded: both are seen from inside of the process.
COMMAND = """
import sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        raise AssertionError(f"{event} {arguments}")

sys.addaudithook(refuse)
from flows.cli import main
try:
    main()
finally:
    assert not [name for name in sys.modules if name.partition(".")[0] == "prefect"], "prefect was loaded"
"""
PASSWORD = "correct horse"
FALLEN = ec.generate_private_key(ec.SECP256R1())


def mirrorflow(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", COMMAND, *map(str, arguments)],
        env={**os.environ, "COLUMNS": "250", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def image_of(name: bytes) -> tuple[bytes, list[bytes]]:
    return manifest_of(OCI_CONFIG, config_of(name), (f"{TAR}+gzip", name))


def push_index(attack: Attack) -> tuple[Descriptor, Descriptor]:
    """`index`, signed, with a child that is signed and one that is not."""
    children = [attack.upstream.keep(*image_of(name)) for name in (b"one", b"two")]
    entries = [{"mediaType": each.media_type, "digest": each.digest, "size": each.size} for each in children]
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    index = attack.upstream.keep(json.dumps(document).encode(), [], "index")
    for each in (index, children[0]):
        sign(attack.upstream, each)
    return index, children[1]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A store without policy: `v1`, `v3` and `index` are signed, `v2` is not. The upstream is gone."""
    folder = tmp_path_factory.mktemp("filled")
    with attacked(folder, api=True) as attack:
        attack.push(image_of(b"v2"), "v2")
        sign(attack.upstream, attack.push(image_of(b"v3"), "v3"))
        push_index(attack)
        with opened(folder, attack.upstream.url) as run:
            mirror(run)
        return folder, attack.upstream.url


@dataclass(frozen=True)
class Mirror:
    """A store, and profiles over it."""

    folder: Path
    url: str

    @property
    def store(self) -> Store:
        return Store.open(self.folder / "store")

    def profile(self, *, entry: dict[str, Any] | None = None, **more: Any) -> Path:
        registry = {"name": "registry1", "urls": [self.url], "content": [{"prefix": "**"}], **(entry or {})}
        document = {"storage": {"rootDirectory": "store"}, "sync": {"registries": [registry]}, **more}
        path = self.folder / "profile.json"
        path.write_text(json.dumps(document))
        return path

    def digest(self, tag: str) -> Digest:
        record = self.store.repository(APP).tag(Tag(tag))
        assert record is not None
        return record.digest

    def audit(self, code: int, **more: Any) -> dict[str, dict[str, Any]]:
        """What `--json` says of each image, by its name."""
        done = mirrorflow("audit", self.profile(**more), "--json")
        assert done.returncode == code, done.stderr
        document = json.loads(done.stdout)
        counted = {name: each for name, each in document["summary"].items() if name != "notJudged"}
        assert sum(counted.values()) == len(document["images"])
        return {each["image"]: each for each in document["images"]}


@pytest.fixture
def mirrored(tmp_path: Path, filled: tuple[Path, str]) -> Mirror:
    """A store of one's own that may be changed."""
    folder, url = filled
    shutil.copytree(folder / "store", tmp_path / "store")
    return Mirror(tmp_path, url)


def results(found: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {name.partition(":")[2]: each["result"] for name, each in found.items()}


def test_what_is_signed_passes_and_what_is_not_is_named_with_the_reason(mirrored: Mirror) -> None:
    found = mirrored.audit(2, **policy())
    assert results(found) == {
        "v1": "passed",
        "v2": "falls short",
        "v3": "passed",
        "index": "passed",
    }
    assert found["app:v2"]["reason"] == "it has no signature"
    signed = found["app:v1"]
    assert (signed["outcome"], signed["rule"], signed["registry"]) == (
        "verified",
        "verify.rules[0]",
        "registry1",
    )
    assert signed["digest"] == mirrored.digest("v1")
    assert signed["signers"][0].startswith("key sha256:")
    assert signed["standing"].startswith("not judged yet"), "what a record says is told, and not believed"


def test_a_replaced_key_is_exit_code_2_and_names_the_images(mirrored: Mirror) -> None:
    profile = mirrored.profile(**policy())
    mirrored.store.repository(APP).delete_tag(Tag("v2"))
    assert mirrorflow("audit", profile).returncode == 0
    done = mirrorflow("audit", mirrored.profile(**policy(key=FALLEN)))
    assert done.returncode == 2
    for tag in ("v1", "v3", "index"):
        assert f"app:{tag} " in done.stdout
    assert "0 images passed, 3 fall short, 0 have no policy" in done.stdout


def test_without_all_only_what_falls_short_is_listed(mirrored: Mirror) -> None:
    profile = mirrored.profile(**policy())
    short, everything = mirrorflow("audit", profile), mirrorflow("audit", profile, "--all")
    assert "app:v2" in short.stdout
    assert "app:v1" not in short.stdout
    assert "--all lists every image" in short.stderr
    assert "app:v1" in everything.stdout
    assert "3 images passed, 1 falls short, 0 have no policy" in everything.stdout


@pytest.mark.parametrize(
    ("rule", "code", "outcome"),
    [
        pytest.param({"mode": "warn"}, 2, "admitted with a warning", id="warn: it falls short all the same"),
        pytest.param({"mode": "enforce"}, 2, "refused", id="enforce"),
        pytest.param({"mode": "skip", "signatures": {}}, 0, "no policy", id="skip: never called verified"),
    ],
)
def test_the_mode_of_the_rule_decides(
    mirrored: Mirror, rule: dict[str, Any], code: int, outcome: str
) -> None:
    found = mirrored.audit(code, **policy(**rule))
    assert found["app:v2"]["outcome"] == outcome
    assert (found["app:v1"]["outcome"] == "verified") is (code == 2)


@pytest.mark.parametrize(
    ("default", "code", "outcome"),
    [
        pytest.param({"require": "accept"}, 0, "no policy", id="accepted unverified"),
        pytest.param({}, 2, "refused", id="no rule, and the profile wants one"),
    ],
)
def test_an_image_without_a_rule_is_never_called_verified(
    mirrored: Mirror, default: dict[str, Any], code: int, outcome: str
) -> None:
    more = policy(match=["elsewhere.example/**"])
    more["verify"]["default"] = default
    found = mirrored.audit(code, **more)
    assert {each["outcome"] for each in found.values()} == {outcome}
    assert {each["rule"] for each in found.values()} == {"" if code == 0 else "no rule"}
    shown = mirrorflow("audit", mirrored.profile(**more), "--all").stdout
    assert "verified" not in shown


def test_only_signed_is_passed_by_a_signature_and_verifies_nothing(mirrored: Mirror) -> None:
    found = mirrored.audit(2, entry={"onlySigned": True})
    assert found["app:v1"]["outcome"] == "signature present, not verified"
    assert results(found)["v1"] == "passed"
    assert results(found)["v2"] == "falls short"
    assert found["app:v2"]["rule"] == "onlySigned"


def test_every_platform_of_an_index_needs_its_signature_where_the_rule_says_so(mirrored: Mirror) -> None:
    more = policy()
    more["verify"]["rules"][0]["signatures"]["indexChildren"] = "each"
    found = mirrored.audit(2, **more)
    assert results(found)["index"] == "falls short"
    assert "it has no signature" in found["app:index"]["reason"]


def damage(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)


def _signature(mirrored: Mirror) -> Path:
    """The payload that was signed."""
    repository = mirrored.store.repository(APP)
    _, body = repository.read_manifest(Tag(f"sha256-{mirrored.digest('v1').hex}.sig"))
    return repository.find_blob(Digest(json.loads(body)["layers"][0]["digest"])).path


def _signature_manifest(mirrored: Mirror) -> Path:
    tag = Tag(f"sha256-{mirrored.digest('v1').hex}.sig")
    return mirrored.store.repository(APP).find_manifest(tag).path


@pytest.mark.parametrize(
    ("path_of", "reason"),
    [
        pytest.param(_signature, "its content is not what its digest promises", id="a signed payload"),
        pytest.param(_signature_manifest, "its manifest is damaged", id="the manifest of a signature"),
        pytest.param(
            lambda mirrored: mirrored.store.repository(APP).find_manifest(Tag("v1")).path,
            "is damaged; remove that file",
            id="the manifest of the image",
        ),
    ],
)
def test_what_is_damaged_falls_short_and_its_neighbours_do_not(
    mirrored: Mirror, path_of: Any, reason: str
) -> None:
    path = path_of(mirrored)
    damage(path, path.read_bytes().replace(b"sha256", b"sha257"))
    found = mirrored.audit(2, **policy())
    assert results(found)["v1"] == "falls short"
    assert reason in found["app:v1"]["reason"]
    assert results(found)["v3"] == "passed"


def test_a_damaged_platform_of_an_index_is_found(mirrored: Mirror) -> None:
    repository = mirrored.store.repository(APP)
    _, body = repository.read_manifest(Tag("index"))
    damage(repository.find_manifest(Digest(json.loads(body)["manifests"][1]["digest"])).path, b"{}")
    found = mirrored.audit(2, **policy())
    assert "is damaged" in found["app:index"]["reason"]


def test_what_is_hidden_is_judged_too(mirrored: Mirror) -> None:
    """Hidden by a key that was withdrawn by mistake."""
    other = load_profile(mirrored.profile(**policy(key=FALLEN))).profile
    sweep(other, open_store(other))
    assert mirrored.store.repositories() == []
    found = mirrored.audit(2, **policy())
    assert results(found) == {"v1": "passed", "v2": "falls short", "v3": "passed", "index": "passed"}
    assert {each["reason"] for each in found.values()} == {
        "it is hidden",
        "it has no signature; it is hidden",
    }


def test_what_is_deleted_while_others_are_judged_is_not_reported(mirrored: Mirror) -> None:
    profile = load_profile(mirrored.profile(**policy())).profile
    found = audit(StoredImages(profile, mirrored.store))
    first = next(found)
    mirrored.store.repository(APP).delete_tag(Tag("v2"))
    assert [first.image.tag, *(each.image.tag for each in found)] == ["index", "v1", "v3"]


def elsewhere() -> dict[str, Any]:
    more = policy()
    more["verify"]["rules"][0]["signatures"]["repository"] = "signatures/of-app"
    return more


def test_signatures_in_another_repository_are_found_where_that_one_is_mirrored_to(mirrored: Mirror) -> None:
    move_signature(mirrored, "v1", RepositoryName("sigs/signatures/of-app"))
    rules = [{"prefix": "app"}, {"prefix": "signatures/**", "destination": "/sigs"}]
    found = mirrored.audit(2, entry={"content": rules}, **elsewhere())
    assert results(found)["v1"] == "passed"
    assert found["app:v2"]["reason"] == "it has no signature"


def test_that_the_repository_of_the_signatures_is_not_mirrored_is_the_reason(mirrored: Mirror) -> None:
    move_signature(mirrored, "v1", RepositoryName("sigs/signatures/of-app"))
    found = mirrored.audit(2, entry={"content": [{"prefix": "app"}]}, **elsewhere())
    assert "does not mirror signatures/of-app" in found["app:v1"]["reason"]


def move_signature(mirrored: Mirror, tag: str, name: RepositoryName) -> None:
    store, signature = mirrored.store, Tag(f"sha256-{mirrored.digest(tag).hex}.sig")
    here, there = store.repository(APP), store.repository(name)
    manifest = parse_manifest(here.read_manifest(signature)[1])
    for blob in manifest.blobs:
        there.put_blob(blob, here.find_blob(blob.digest).path.read_bytes())
    there.put_manifest(manifest)
    record = here.tag(signature)
    assert record is not None
    there.put_tag(signature, record)
    here.delete_tag(signature)


def test_what_no_entry_of_the_profile_brought_is_counted_and_not_judged(mirrored: Mirror) -> None:
    repository = mirrored.store.repository(APP)
    record = repository.tag(Tag("v2"))
    assert record is not None
    assert record.origin is not None
    repository.put_tag(Tag("pushed"), replace(record, origin=None))
    gone = replace(record.origin, registry="old", repository="elsewhere")
    repository.put_tag(Tag("gone"), replace(record, origin=gone))
    assert not {"app:pushed", "app:gone"} & mirrored.audit(2, **policy()).keys()
    shown = mirrorflow("audit", mirrored.profile(**policy())).stdout
    assert "not judged: 1 that clients pushed" in shown
    assert "not judged: 1 of the registry entry 'old', which the profile does not have" in shown
    said = statement_of(mirrored, policy())["predicate"]["summary"]["notJudged"]
    assert sum(said.values()) == 2


@pytest.mark.parametrize("kind", ["bundled", "docker-registry"])
def test_every_kind_of_signature_is_judged_from_the_store_as_at_the_upstream(
    world: World, tmp_path: Path, kind: str
) -> None:
    upstream: Upstream
    program = shutil.which("docker-registry")
    if kind == "docker-registry" and program is None:
        pytest.skip("docker-registry is not installed")
    images = fill(world)
    holder = (
        bundled(tmp_path / "up", images)
        if kind == "bundled"
        else docker_registry(str(program), tmp_path / "up", images)
    )
    (tmp_path / "up").mkdir()
    with holder as upstream:
        with opened(tmp_path, upstream.url) as run:
            mirror(run)
        url, host = upstream.url, upstream.host
    found = Mirror(tmp_path, url).audit(2, **policy_of(world, host))
    for case in cases():
        judged = found[f"app:{case.tag}"]
        assert judged["result"] == ("falls short" if case.why else "passed"), case.tag
        assert case.why in judged["reason"], case.tag


# The statement


def key_file(folder: Path, key: Any, password: str = "") -> Path:
    path = folder / "audit.key"
    encryption = BestAvailableEncryption(password.encode()) if password else NoEncryption()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    return path


def public_file(folder: Path, key: Any) -> Path:
    path = folder / "audit.pub"
    path.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return path


KEYS = {
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "RSA": lambda: rsa.generate_private_key(65537, 2048),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
}


@pytest.mark.parametrize("kind", KEYS)
def test_the_statement_is_verified_by_others_for_what_passed_and_for_nothing_else(
    mirrored: Mirror, kind: str
) -> None:
    key = KEYS[kind]()
    bundle = mirrored.folder / "result.json"
    done = mirrorflow(
        "audit",
        mirrored.profile(**policy()),
        "--attest",
        key_file(mirrored.folder, key),
        "--output",
        bundle,
    )
    assert done.returncode == 2, done.stderr
    public = public_file(mirrored.folder, key)
    authority = KeyAuthority("auditor", TrustedKey.from_pem(public.read_bytes()))
    candidate = SigstoreBundle("file", bundle.read_bytes())
    found = authority.check(candidate, Image(mirrored.digest("v1"), OCI_MANIFEST))
    assert found.predicate_type == PREDICATE
    with pytest.raises(Refused, match="another image"):
        authority.check(candidate, Image(mirrored.digest("v2"), OCI_MANIFEST))
    assert found.statement is not None
    predicate = found.statement["predicate"]
    assert predicate["summary"] == {"passed": 3, "fallsShort": 1, "noPolicy": 0, "notJudged": {}}
    assert len(predicate["images"]) == 4
    assert (
        predicate["profile"]["digest"]["sha256"]
        == Digest.of((mirrored.folder / "profile.json").read_bytes()).hex
    )
    if shutil.which("cosign"):
        verified = cosign(public, bundle, mirrored.digest("v1"))
        assert verified.returncode == 0, verified.stderr
        assert cosign(public, bundle, mirrored.digest("v2")).returncode != 0


def cosign(public: Path, bundle: Path, digest: Digest) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *("cosign", "verify-blob-attestation", "--insecure-ignore-tlog", "--type", PREDICATE),
            *("--key", public, "--bundle", bundle, "--digest", digest.hex, "--digestAlg", "sha256"),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HOME": str(public.parent)},
    )


def test_a_digest_that_falls_short_under_another_name_is_no_subject(mirrored: Mirror) -> None:
    more = policy()
    [rule] = more["verify"]["rules"]
    more["trust"]["keys"]["other"] = {"pem": pem_of(FALLEN)}
    stranger = {"from": [{"name": "other", "type": "key", "key": "other"}]}
    more["verify"]["rules"].insert(0, rule | {"tags": ["again"], "signatures": stranger})
    repository = mirrored.store.repository(APP)
    record = repository.tag(Tag("v1"))
    assert record is not None
    repository.put_tag(Tag("again"), record)
    subjects = statement_of(mirrored, more)["subject"]
    assert mirrored.digest("v3").hex in {each["digest"]["sha256"] for each in subjects}
    assert mirrored.digest("v1").hex not in {each["digest"]["sha256"] for each in subjects}


def statement_of(mirrored: Mirror, more: dict[str, Any]) -> dict[str, Any]:
    key = key_file(mirrored.folder, KEYS["P-256"]())
    bundle = mirrored.folder / "result.json"
    done = mirrorflow("audit", mirrored.profile(**more), "--attest", key, "--output", bundle)
    assert "the signed statement is in" in done.stderr, done.stderr
    envelope = json.loads(bundle.read_bytes())["dsseEnvelope"]
    found: dict[str, Any] = json.loads(base64.b64decode(envelope["payload"]))
    return found


@pytest.mark.parametrize("variable", ["MIRRORFLOW_ATTEST_PASSWORD", "COSIGN_PASSWORD"])
def test_an_encrypted_key_is_opened_with_a_password_of_the_environment(
    mirrored: Mirror, variable: str
) -> None:
    key = key_file(mirrored.folder, KEYS["P-256"](), PASSWORD)
    bundle = mirrored.folder / "result.json"
    arguments = ("audit", mirrored.profile(**policy()), "--attest", key, "--output", bundle)
    done = mirrorflow(*arguments, **{variable: PASSWORD})
    assert done.returncode == 2, done.stderr
    assert bundle.exists()
    assert PASSWORD not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("content", "password", "words"),
    [
        pytest.param("encrypted", "", "the key is encrypted; put its password into", id="no password"),
        pytest.param(
            "encrypted", "wrong horse", "cannot be decrypted; check MIRRORFLOW_", id="another password"
        ),
        pytest.param(
            "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nc2VjcmV0\n-----END",
            PASSWORD,
            "cosign's own encryption",
            id="a key of cosign",
        ),
        pytest.param("no key", "", "not a private key in PEM", id="something else"),
        pytest.param("public", "", "not a private key in PEM", id="a public key"),
        pytest.param("", "", "not a private key in PEM", id="an empty file"),
        pytest.param(None, "", "cannot be read", id="no file"),
    ],
)
def test_a_key_that_cannot_be_used_is_one_line_without_its_secrets(
    mirrored: Mirror, content: str | None, password: str, words: str
) -> None:
    made = KEYS["P-256"]()
    key = mirrored.folder / "audit.key"
    if content == "encrypted":
        key_file(mirrored.folder, made, PASSWORD)
    elif content == "public":
        shutil.copy(public_file(mirrored.folder, made), key)
    elif content is not None:
        key.write_text(content)
    more = {"MIRRORFLOW_ATTEST_PASSWORD": password}
    done = mirrorflow("audit", mirrored.profile(**policy()), "--attest", key, **more)
    assert done.returncode == 1
    assert words in done.stderr
    assert done.stderr.count("error: ") == 1
    assert "Traceback" not in done.stderr
    assert all(secret not in done.stderr for secret in (PASSWORD, "wrong horse", "c2VjcmV0"))
    assert done.stdout == "", "a mistake is seen before the work"


@pytest.mark.parametrize(
    ("output", "more", "words"),
    [
        pytest.param("none/result.json", policy(), "there is no folder", id="no such folder"),
        pytest.param("store", policy(), "cannot be written", id="a folder"),
        pytest.param("result.json", policy(key=FALLEN), "no image was verified", id="nothing to say"),
        pytest.param("result.json", {}, "no image was verified", id="no policy verifies nothing"),
    ],
)
def test_a_statement_that_cannot_be_written_is_an_error(
    mirrored: Mirror, output: str, more: dict[str, Any], words: str
) -> None:
    key = key_file(mirrored.folder, KEYS["P-256"]())
    bundle = mirrored.folder / output
    done = mirrorflow("audit", mirrored.profile(**more), "--attest", key, "--output", bundle)
    assert done.returncode == 1
    assert words in done.stderr
    assert not bundle.is_file()


def test_a_store_that_is_not_there_is_an_error(mirrored: Mirror) -> None:
    shutil.rmtree(mirrored.folder / "store")
    assert mirrorflow("audit", mirrored.profile(**policy())).returncode == 1
