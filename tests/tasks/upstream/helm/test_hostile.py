"""An index and archives by somebody who means harm, or made a mistake: one clear error, nothing enters."""

from __future__ import annotations

import gzip
import hashlib
import json
import tarfile
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from registry_server.oci.digest import Digest
from registry_server.oci.manifest import parse_manifest
from tasks.upstream.errors import (
    UpstreamContentError,
    UpstreamError,
    UpstreamNotFound,
    UpstreamProtocolError,
    UpstreamUnavailable,
)
from tasks.upstream.helm import chart
from tasks.upstream.helm.chart import ChartInvalid, package
from tasks.upstream.helm.index import parse_index
from tasks.upstream.helm.plain_yaml import PlainYamlInvalid, load_plain
from tasks.upstream.helm.repository import HelmRepository
from tasks.upstream.login.credentials import NoCredentials
from tasks.upstream.options import PlainUrl, UpstreamOptions
from tests.support_behaviours import answers, endless, redirects, resets
from tests.support_misbehaving import misbehaving
from tests.tasks.upstream.clients import FakeTime
from tests.tasks.upstream.helm.charts import HelmServer, archive, packed
from tests.tasks.upstream.sinks import MemorySink

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.upstream.registry import Fetched
    from tests.support_misbehaving import Behaviour

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in pairwise("abcdefghi")
)


@pytest.fixture
def helm() -> Iterator[HelmServer]:
    with misbehaving() as server:
        yield HelmServer(server)


def client(helm: HelmServer) -> HelmRepository:
    time = FakeTime()
    url = PlainUrl("http", helm.server.host, api_path="stable", kind="helm")
    options = UpstreamOptions(urls=(url,))
    return HelmRepository(options, NoCredentials(), clock=time.clock, sleep=time.sleep)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(LAUGHS, "aliases", id="billion laughs"),
        pytest.param("a: &a\n  b: *a\n", "aliases", id="a mapping in itself"),
        pytest.param("[" * 100_000, "nested deeper than 64", id="nested lists"),
        pytest.param("a: !!python/object/apply:os.system [x]\n  b", "not YAML", id="broken"),
        pytest.param("? [a, b]\n: c\n", "a key that is not a text", id="a list as key"),
        pytest.param("a: \x00", "not YAML", id="control characters"),
    ],
)
def test_yaml_that_nobody_has_to_write_is_refused(text: str, words: str) -> None:
    with pytest.raises(PlainYamlInvalid, match=words):
        load_plain(text.encode())


def test_a_scalar_stays_the_text_that_it_was() -> None:
    text = b"a: 1.10\nb: yes\nc: 2020-01-01\nd: ~\ne: ''\nf: !!python/name:os.system x\ng: 0x10\n"
    expected = {"a": "1.10", "b": "yes", "c": "2020-01-01", "d": None, "e": "", "f": "x", "g": "0x10"}
    assert load_plain(text) == expected


def test_more_nodes_than_any_index_has_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.upstream.helm import plain_yaml

    monkeypatch.setattr(plain_yaml, "MOST_NODES", 100)
    with pytest.raises(PlainYamlInvalid, match="more than 100 nodes"):
        load_plain(b"- a\n" * 200)


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param({"version": "1.0.0"}, id="no address"),
        pytest.param({"version": "1.0.0", "urls": []}, id="an empty list of addresses"),
        pytest.param({"version": "1.0.0", "urls": [{"a": "b"}]}, id="an address that is no text"),
        pytest.param({"version": "a/b", "urls": ["x"]}, id="a version that no tag can be"),
        pytest.param({"version": "1.0.0", "urls": ["x"], "digest": "md5:1"}, id="a digest of another kind"),
        pytest.param({"version": ["1"], "urls": ["x"]}, id="a list of versions"),
        pytest.param({"version": "1.0.0", "urls": ["x"], "name": "other"}, id="another name"),
        pytest.param({"version": "1.0.0", "urls": ["x"], "removed": True}, id="removed"),
        pytest.param("text", id="a text"),
    ],
)
def test_an_entry_that_no_client_could_ask_for_is_left_out(entry: Any) -> None:
    import yaml

    good = {"version": "2.0.0", "urls": ["y"]}
    document = {"entries": {"app": [entry, good]}}
    for text in (yaml.safe_dump(document), json.dumps(document)):
        index = parse_index(text.encode())
        assert list(index.charts["app"]) == ["2.0.0"]
        assert len(index.unusable) == 1


def test_what_is_said_of_an_entry_writes_nothing_to_a_terminal() -> None:
    document = {"entries": {"a\x1b]0;b\x07\n\ud800": [{"version": "\u202e1"}]}}
    assert parse_index(json.dumps(document).encode()).unusable == ("a?]0;b??? ?1",)


def test_json_with_more_nodes_than_any_index_has_is_refused() -> None:
    body = b'{"entries": {}, "x": [' + b"[]," * 5_000_000 + b"0]}"
    with pytest.raises(PlainYamlInvalid, match="more than 5000000 nodes"):
        parse_index(body)


@pytest.mark.parametrize(
    ("behaviour", "kind", "words"),
    [
        pytest.param(answers(404), UpstreamNotFound, "no index.yaml there", id="nothing there"),
        pytest.param(answers(200, b"<html></html>"), UpstreamProtocolError, "not the index", id="a web page"),
        pytest.param(answers(200, LAUGHS.encode()), UpstreamProtocolError, "aliases", id="billion laughs"),
        pytest.param(endless(b"# " * 50_000), UpstreamProtocolError, "which is the limit", id="endless"),
        pytest.param(resets, UpstreamUnavailable, "127.0.0.1", id="cut"),
        pytest.param(
            redirects("http://169.254.169.254/"), UpstreamProtocolError, "169.254", id="to a cloud's metadata"
        ),
    ],
)
def test_an_index_that_is_none_is_one_clear_error(
    helm: HelmServer, behaviour: Behaviour, kind: type[UpstreamError], words: str
) -> None:
    helm.server.on("/stable/index.yaml", behaviour)
    with client(helm) as repository, pytest.raises(kind, match=words):
        list(repository.repositories())


@pytest.mark.parametrize(
    "address",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://[fe80::1]/chart.tgz",
        "file:///etc/passwd",
        "ftp://127.0.0.1/chart.tgz",
        "http://user:password@127.0.0.1/chart.tgz",
        "http://[::bad/",
    ],
)
def test_an_address_that_is_none_of_a_repositorys_is_not_asked(helm: HelmServer, address: str) -> None:
    helm.add()["urls"] = [address]
    helm.publish()
    with client(helm) as repository, pytest.raises(UpstreamProtocolError):
        repository.head("app", "1.0.0")


def _add(helm: HelmServer, content: bytes, digest: str = "") -> None:
    """An index that promises `content`, or something else."""
    helm.add()["digest"] = digest or hashlib.sha256(content).hexdigest()
    helm.server.on("/stable/charts/app-1.0.0.tgz", answers(200, content))
    helm.publish()


_METADATA = b"name: app\nversion: 1.0.0\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"no archive", "not a gzipped tar archive", id="no gzip"),
        pytest.param(gzip.compress(b"x" * 5000), "not a gzipped tar archive", id="no tar"),
        pytest.param(archive()[:100], "not a gzipped tar archive", id="cut short"),
        pytest.param(packed({"app/values.yaml": b""}), "without NAME/Chart.yaml", id="no Chart.yaml"),
        pytest.param(packed({"app/charts/b/Chart.yaml": _METADATA}), "without", id="that of a subchart"),
        pytest.param(packed({"app/Chart.yaml": b"[]"}), "not a mapping", id="a list"),
        pytest.param(packed({"app/Chart.yaml": LAUGHS.encode()}), "aliases", id="billion laughs"),
        pytest.param(
            packed({"app/Chart.yaml": b"x" * 1_100_000}), "more than 1048576", id="a huge Chart.yaml"
        ),
        pytest.param(archive("evil"), "is of 'evil' '1.0.0', and the index says 'app'", id="another name"),
        pytest.param(archive("app", "9.9.9"), "is of 'app' '9.9.9'", id="another version"),
        pytest.param(
            packed({"app/Chart.yaml": b"name: [app]\nversion: {a: b}\n"}), "is of None", id="odd types"
        ),
    ],
)
def test_an_archive_that_is_not_the_chart_is_refused(helm: HelmServer, content: bytes, words: str) -> None:
    _add(helm, content)
    with client(helm) as repository, pytest.raises(UpstreamContentError) as found:
        repository.head("app", "1.0.0")
    assert words in str(found.value)


def test_an_archive_with_another_digest_than_the_index_says_is_refused(helm: HelmServer) -> None:
    _add(helm, archive(), "0" * 64)
    with client(helm) as repository, pytest.raises(UpstreamContentError, match="the index says sha256:0000"):
        repository.head("app", "1.0.0")


@pytest.mark.parametrize("with_digest", [True, False])
def test_a_version_that_is_broken_keeps_no_other_one_away(helm: HelmServer, *, with_digest: bool) -> None:
    """Neither the one that is polled, nor by digest, nor its blobs."""
    for version in ("2.0.0", "1.0.0", "0.9.0"):
        entry = helm.add(version=version)
        entry["digest"] = entry["digest"] if with_digest else ""
    helm.publish()
    helm.server.on("/stable/charts/app-2.0.0.tgz", answers(404))
    helm.server.on("/stable/charts/app-0.9.0.tgz", answers(200, b"no archive"))
    with client(helm) as repository:
        found = repository.manifest("app", "1.0.0")
        _take_all(repository, found)
    with client(helm) as another:
        assert another.manifest("app", str(found.digest)).body == found.body
    with client(helm) as another:
        _take_all(another, found)
    with client(helm) as another, pytest.raises(UpstreamNotFound, match=r"app:2\.0\.0"):
        another.manifest("app", f"sha256:{'0' * 64}")


def _take_all(repository: HelmRepository, found: Fetched) -> None:
    blobs = parse_manifest(found.body, found.media_type).blobs
    assert len(blobs) == 2
    for blob in blobs:
        repository.blob("app", blob, sink := MemorySink())
        assert Digest.of(bytes(sink.content)) == blob.digest


def test_a_member_that_says_to_be_endless_is_not_read_for_ever() -> None:
    """In base 256, as GNU writes large sizes."""
    member = tarfile.TarInfo("app/values.yaml")
    member.size = 2**62
    body = member.tobuf(tarfile.GNU_FORMAT) + b"few bytes"
    with pytest.raises(ChartInvalid, match="a member is longer than the archive"):
        package(gzip.compress(body), "app", "1.0.0", None)


def test_a_gzip_bomb_is_read_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chart, "_MAX_UNPACKED", 1_000_000)
    bomb = packed({"app/zeros": b"\0" * 5_000_000, "app/Chart.yaml": _METADATA})
    with pytest.raises(ChartInvalid, match="more than 1000000 bytes unpacked"):
        package(bomb, "app", "1.0.0", None)


def test_an_archive_that_is_too_large_is_not_read_to_its_end(helm: HelmServer) -> None:
    helm.add()
    helm.server.on("/stable/charts/app-1.0.0.tgz", endless())
    with client(helm) as repository, pytest.raises(UpstreamProtocolError, match="which is the limit"):
        repository.head("app", "1.0.0")


def test_metadata_of_other_types_than_helms_is_left_out() -> None:
    odd: dict[str, Any] = {
        "description": ["a", "list"],
        "keywords": ["good", {"bad": 1}],
        "maintainers": [{"name": "me", "email": {"a": "b"}}, "text"],
        "dependencies": [{"name": "db", "enabled": True, "tags": ["t"], "alias": ["x"]}],
        "annotations": {"a": "b", "c": ["d"]},
        "deprecated": True,
    }
    metadata = chart.read_metadata(archive(**odd))
    assert metadata["keywords"] == ["good"]
    assert metadata["maintainers"] == [{"name": "me"}]
    assert metadata["dependencies"] == [{"name": "db", "tags": ["t"], "enabled": True}]
    assert (metadata["annotations"], metadata["deprecated"]) == ({"a": "b"}, True)
    assert "description" not in metadata
