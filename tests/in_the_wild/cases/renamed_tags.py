"""Tags that have another name here: `tags.rename`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.in_the_wild.cases.rows import Row

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support_misbehaving import Misbehaving

APP: Final = "library/app"
SKOPEO: Final = "skopeo-sync(1): --append-suffix"
SED: Final = "docs/profile.md: tags.rename"


def _tags(*tags: str) -> Callable[[Misbehaving], object]:
    def arrange(upstream: Misbehaving) -> None:
        for tag in tags:
            upstream.add_image(APP, tag, layers=(tag.encode(),))

    return arrange


def _rename(tags_like: str, to: str, **tags: str) -> tuple[dict[str, object], ...]:
    return ({"prefix": "**", "tags": {"rename": {"regex": tags_like, "to": to}, **tags}},)


ROWS: Final = (
    Row(
        "a prefix is left out, and other tags keep their name",
        SED,
        _tags("v1.2", "latest"),
        mirrored=(f"{APP}:1.2", f"{APP}:latest"),
        content=_rename("v(.*)", "$1"),
        unlike_peers="they have another name here",
    ),
    Row(
        "a suffix for every tag",
        SKOPEO,
        _tags("1", "2"),
        mirrored=(f"{APP}:1-mirror", f"{APP}:2-mirror"),
        content=_rename(".*", "$0-mirror"),
        unlike_peers="they have another name here",
    ),
    Row(
        "groups by name, and conditions about the upstream's name",
        SED,
        _tags("1.2-alpine", "1.2"),
        mirrored=(f"{APP}:alpine_1.2",),
        content=_rename("(?P<version>.+)-(?P<system>.+)", "${system}_${version}", regex=".*-alpine"),
        unlike_peers="they have another name here, or the rule drops them",
    ),
    Row(
        "two tags with one name here",
        SED,
        _tags("v1", "1", "v2"),
        mirrored=(f"{APP}:2",),
        failed={f"{APP}:1": "tags.rename gives this name to both v1 and 1 of library/app|to both 1 and v1"},
        content=_rename("v(.*)", "$1"),
        unlike_peers="none of the two can have the name",
    ),
    Row(
        "a name that is no tag",
        SED,
        _tags("1", "22"),
        mirrored=(f"{APP}:22",),
        failed={
            f"{APP}:1": "tags.rename makes '-1' of it, which is not a tag by the rules of distribution-spec"
        },
        content=_rename("(.)", "-$1"),
        unlike_peers="it has no name here",
    ),
)
