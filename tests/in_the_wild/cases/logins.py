"""Registries that want a login, and where they and their proxies send us with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tests.support_behaviours import answers, json_answer, redirects, well_behaved
from tests.tasks.upstream.login.test_auth import BASIC, needs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.support_misbehaving import Behaviour, Exchange, Misbehaving

    Arrange = Callable[[Misbehaving, Misbehaving], None]

APP: Final = "library/app"
OURS: Final = f"repository:{APP}:pull"
TOKEN: Final = "Bearer t0ken"


@dataclass(frozen=True, slots=True)
class Case:
    """`arrange` gets the registry and another host. `told` and `told_elsewhere` are the Authorization headers
    that the two see; `scopes` what the tokens are asked for, in their order. `problem` as in `Row`."""

    what: str
    source: str
    arrange: Arrange
    login: bool = True
    entry: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""
    told: frozenset[str] = frozenset({BASIC, TOKEN})
    told_elsewhere: frozenset[str] = frozenset()
    scopes: tuple[str, ...] = (OURS,)

    def __str__(self) -> str:
        return self.what


def everywhere(registry: Misbehaving, behaviour: Behaviour) -> None:
    """On every path that a mirror of `APP` asks for."""
    image = registry.add_image(APP, "1")
    content = [f"manifests/{image.manifest.digest}", "manifests/1", "tags/list"]
    content += [f"blobs/{blob.digest}" for blob in (image.config, *image.layers)]
    for path in ("/v2/", *(f"/v2/{APP}/{each}" for each in content)):
        registry.on(path, behaviour)


def bearer(service: Misbehaving, scope: str = OURS, path: str = "/token") -> Behaviour:
    return needs(TOKEN, f'Bearer realm="http://{service.host}{path}",service="registry",scope="{scope}"')


def gives_token(for_scope: str = "") -> Behaviour:
    """A token that is good where it was asked for `for_scope`."""

    def behave(exchange: Exchange) -> None:
        good = not for_scope or exchange.seen.query["scope"] == [for_scope]
        json_answer({"token": "t0ken" if good else "useless"})(exchange)

    return behave


def _scope(named: str, good: str) -> Arrange:
    def arrange(registry: Misbehaving, _other: Misbehaving) -> None:
        everywhere(registry, bearer(registry, named))
        registry.on("/token", gives_token(good))

    return arrange


def _service_elsewhere(registry: Misbehaving, other: Misbehaving) -> None:
    everywhere(registry, bearer(other))
    other.on("/token", gives_token())


def _scope_of_v2(registry: Misbehaving, _other: Misbehaving) -> None:
    everywhere(registry, bearer(registry))
    registry.on("/v2/", bearer(registry, "repository:user/image:pull"))
    registry.on("/token", gives_token(OURS))


def _service_redirects(to: str, status: int) -> Arrange:
    def arrange(registry: Misbehaving, other: Misbehaving) -> None:
        everywhere(registry, bearer(registry))
        registry.on("/token", redirects(to.replace("{other}", other.host), status))
        for host in (registry, other):
            host.on("/auth/token", gives_token())

    return arrange


def _service_is_busy(registry: Misbehaving, _other: Misbehaving) -> None:
    everywhere(registry, bearer(registry))
    registry.on("/token", answers(429), gives_token())


def _content_elsewhere(wants: Callable[[Misbehaving], Behaviour]) -> Arrange:
    """The registry has the lists and sends us elsewhere for everything else."""

    def arrange(registry: Misbehaving, other: Misbehaving) -> None:
        def behave(exchange: Exchange) -> None:
            path = exchange.seen.path
            allowed = exchange.seen.headers.get("authorization") == BASIC
            if path == "/v2/" or path.endswith("/tags/list") or not allowed:
                needs(BASIC, 'Basic realm="here"')(exchange)
            else:
                redirects(f"http://{other.host}{path}")(exchange)

        everywhere(registry, behave)
        everywhere(other, wants(other))
        other.on("/token", gives_token())

    return arrange


_ONLY_BASIC: Final = frozenset({BASIC})
CASES: Final = (
    Case(
        "a registry that calls its repositories otherwise",
        "oras-project/oras-go 650: Artifactory behind a proxy that rewrites paths",
        _scope("repository:docker-local/app:pull", "repository:docker-local/app:pull"),
        told=frozenset({BASIC, TOKEN, "Bearer useless"}),
        scopes=(OURS, "repository:docker-local/app:pull"),
    ),
    Case(
        "a proxy that names a repository that its token service does not know",
        "oras-project/oras-go 650",
        _scope("repository:inner/app:pull", OURS),
        scopes=(OURS,),
    ),
    Case(
        "a challenge that wants more than to pull",
        "distribution: Token Scope; a mirror never asks for more",
        _scope(f"repository:{APP}:pull,push", OURS),
    ),
    Case("a challenge whose scope is none", "SgtSilvio/gradle-oci 141: ECR Public", _scope("aws", OURS)),
    Case("a scope at /v2/ that is an example", "SgtSilvio/gradle-oci 141: GHCR", _scope_of_v2),
    Case(
        "a token service under another domain",
        "google/go-containerregistry 2193, CVE-2026-33540",
        _service_elsewhere,
        problem=r'must not see the credentials of 127.0.0.1; add `tokenServices: \["http://127.0.0.2:\d+"\]`',
        told=frozenset(),
        scopes=(),
    ),
    Case(
        "a token service under another domain that the profile names",
        "oras-project/oras-dotnet 393: trusted realm hosts, for one registry each",
        _service_elsewhere,
        entry={"tokenServices": ["http://{other}"]},
        told=frozenset({TOKEN}),
        told_elsewhere=_ONLY_BASIC,
    ),
    Case(
        "a token service under another domain, without a login",
        "distribution: Token Authentication",
        _service_elsewhere,
        login=False,
        told=frozenset({TOKEN}),
    ),
    Case(
        "a token service that redirects within its host",
        "RFC 9110, 15.4",
        _service_redirects("/auth/token", 301),
        scopes=(OURS,),
    ),
    Case(
        "a token service that redirects to another host",
        "clowdhaus/ocync 60",
        _service_redirects("http://{other}/auth/token", 307),
        problem="the token service 127.0.0.1: 307",
        told=_ONLY_BASIC,
    ),
    Case("a token service that is busy", "RFC 6585, 4", _service_is_busy, scopes=(OURS, OURS)),
    Case(
        "content elsewhere, for everybody",
        "distribution: storage.redirect",
        _content_elsewhere(lambda _: well_behaved),
        told=_ONLY_BASIC,
        scopes=(),
    ),
    Case(
        "content elsewhere, for a token that everybody gets",
        "kubernetes/registry.k8s.io: redirects to another registry",
        _content_elsewhere(bearer),
        told=_ONLY_BASIC,
        told_elsewhere=frozenset({TOKEN}),
    ),
    Case(
        "content elsewhere, behind a login of its own",
        "a mirror that logs in there would show what is private there",
        _content_elsewhere(lambda _: needs(BASIC, 'Basic realm="there"')),
        problem="127.0.0.2, where it redirects to, requires a login, and none is sent there; name that host",
        told=_ONLY_BASIC,
        scopes=(),
    ),
)
