"""Which images Kubernetes objects use: pure, from the objects as JSON.

Pods and the templates of workloads (Deployment, CronJob, ...) keep their containers under the same three
keys at different depths, and so do custom resources that embed a pod template. The keys are looked for at any
depth.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from profiles.imports.image_reference import ImageReference
from registry_server.oci.errors import InvalidName
from registry_server.oci.reference import parse_reference

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from registry_server.oci.digest import Digest
    from registry_server.oci.reference import Tag

LATEST: Final = "latest"  # what clients take where an image names neither tag nor digest
MAX_DEPTH: Final = 64  # of an object; a pod template is some ten levels deep
_LISTS: Final = {
    "containers": "container",
    "initContainers": "init container",
    "ephemeralContainers": "ephemeral container",
}
_SHOWN: Final = 120  # characters of a text that is no image
# Operators are told in arguments and variables which images to start. Only what names a host with a dot or a
# port, and a tag or a digest, is taken for one.
_IN_ARGUMENT: Final = re.compile(
    r"(?:--?[A-Za-z0-9][A-Za-z0-9._-]*=)?"
    r"((?:[a-z0-9-]+(?:\.[a-z0-9-]+)+|localhost)(?::[0-9]{1,5})?"
    r"(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)+"
    r"(?::[A-Za-z_][A-Za-z0-9._-]{0,127}|:[0-9][0-9A-Za-z_-]*\.[A-Za-z0-9._-]{1,100}|@sha256:[0-9a-f]{64}))",
    re.ASCII,
)
# Kinds of Kubernetes itself: they have images only where pods have them.
_OWN_GROUPS: Final = re.compile(r"(?:v1|[a-z]+/v\w+|[a-z.]+\.k8s\.io/v\w+)")


@dataclass(frozen=True, slots=True)
class Use:
    """An image as it is written, and where: `Deployment shop/web, container app`.

    `running` is the digest that a container was started from, "" where that is not known.
    """

    image: str
    place: str
    running: str = ""


@dataclass(frozen=True, slots=True)
class UsedImage:
    """One image, by all who use it. `name` is None for a text that is no image.

    `written` is the first way it is written; `running` are the digests of the containers that were started.
    """

    written: str
    name: ImageReference | None
    places: tuple[str, ...] = ()
    running: frozenset[str] = field(default=frozenset())

    @property
    def full_name(self) -> str:
        """With host and tag, as no client has to guess them: `docker.io/library/nginx:latest`."""
        if self.name is None:
            return self.written
        sign = "@" if ":" in self.name.reference else ":"
        return f"{self.name.registry}/{self.name.repository}{sign}{self.name.reference}"

    @property
    def reference(self) -> Tag | Digest:
        """The tag or the digest. Raises ValueError for a text that is no image."""
        if self.name is None:
            raise ValueError(f"{self.written!r} is no image")
        return parse_reference(self.name.reference)


def used_images(uses: Iterable[Use]) -> list[UsedImage]:
    """Each image once, in the order of their names. `nginx` and `docker.io/library/nginx:latest` are one."""
    found: dict[str, UsedImage] = {}
    for use in uses:
        image = UsedImage(use.image, parse_image(use.image))
        known = found.get(image.full_name, image)
        found[image.full_name] = UsedImage(
            known.written,
            known.name,
            tuple(dict.fromkeys((*known.places, use.place))),
            known.running | ({use.running} if use.running else set()),
        )
    return [found[name] for name in sorted(found)]


def parse_image(text: str) -> ImageReference | None:
    """As a container runtime reads it: Docker Hub without a host, `latest` without a tag or digest."""
    found = ImageReference.parse(text)
    if found is None or not found.repository:
        return None
    try:
        parse_reference(found.reference or LATEST)
    except InvalidName:
        return None
    return ImageReference(found.registry, found.repository, found.reference or LATEST)


def uses_of(document: Any) -> Iterator[Use]:
    """The images of one object, or of each object of a list. What is no object has none."""
    if not isinstance(document, dict):
        return
    items = document.get("items")
    if isinstance(items, list) and str(document.get("kind", "List")).endswith("List"):
        kind = str(document.get("kind", "")).removesuffix("List")
        for item in items:
            yield from uses_of({"kind": kind, **item} if isinstance(item, dict) else None)
        return
    name = object_name(document)
    running = _running(document)
    seen = set[int]()
    for key, value in document.items():
        if key not in {"status", "metadata"}:
            yield from _below(value, name, running, seen, is_own=_is_own(document), depth=0)


def object_name(document: Mapping[str, Any]) -> str:
    """`Deployment shop/web`; what an object does not say is left out."""
    found = document.get("metadata")
    metadata = found if isinstance(found, dict) else {}
    name = metadata.get("name") or metadata.get("generateName")
    path = "/".join(str(each) for each in (metadata.get("namespace"), name) if each)
    return " ".join(filter(None, (str(document.get("kind") or "object"), path)))


def _is_own(document: Mapping[str, Any]) -> bool:
    return _OWN_GROUPS.fullmatch(str(document.get("apiVersion", "v1"))) is not None


def _below(
    value: Any, name: str, running: Mapping[str, str], seen: set[int], *, is_own: bool, depth: int
) -> Iterator[Use]:
    """`seen`: aliases of YAML make one object of many; each is looked at once."""
    if depth > MAX_DEPTH or id(value) in seen or not isinstance(value, dict | list):
        return
    seen.add(id(value))
    if isinstance(value, list):
        for item in value:
            yield from _below(item, name, running, seen, is_own=is_own, depth=depth + 1)
        return
    for key, below in value.items():
        if key in _LISTS and isinstance(below, list):
            for container in below:
                yield from _of_container(container, f"{name}, {_LISTS[key]}", running)
        elif key == "volumes" and isinstance(below, list):
            yield from _of_volumes(below, name)
        elif key == "image" and not is_own and isinstance(below, str) and _is_explicit(below):
            yield Use(below.strip(), f"{name}, image")
        yield from _below(below, name, running, seen, is_own=is_own, depth=depth + 1)


def _is_explicit(text: str) -> bool:
    """What `image` means in a custom resource is not known: a path with a tag or digest is taken for one."""
    last = text.strip().rpartition("/")[2]
    return "/" in text and (":" in last or "@" in last) and parse_image(text) is not None


def _of_container(container: Any, where: str, running: Mapping[str, str]) -> Iterator[Use]:
    """Its own image, and those that it is told of."""
    if not isinstance(container, dict):
        return
    name = str(container.get("name") or "")
    place = f"{where} {name}".rstrip()
    if isinstance(image := container.get("image"), str) and image.strip():
        yield Use(image.strip(), place, running.get(name, ""))
    for text in _told(container):
        if found := _IN_ARGUMENT.fullmatch(text.strip()):
            yield Use(found[1], f"{place}, named in an argument")


def _told(container: Mapping[str, Any]) -> Iterator[str]:
    for key in ("command", "args"):
        yield from (each for each in _list(container.get(key)) if isinstance(each, str))
    for variable in _list(container.get("env")):
        if isinstance(variable, dict) and isinstance(value := variable.get("value"), str):
            yield value


def _of_volumes(volumes: list[Any], name: str) -> Iterator[Use]:
    """Volumes that are images (Kubernetes 1.31 and later)."""
    for volume in volumes:
        image = volume.get("image") if isinstance(volume, dict) else None
        if isinstance(image, dict) and isinstance(text := image.get("reference"), str) and text.strip():
            yield Use(text.strip(), f"{name}, volume {volume.get('name', '')}".rstrip())


def _running(document: Mapping[str, Any]) -> dict[str, str]:
    """By the name of the container, the digest that a pod says it runs (`imageID`)."""
    status = document.get("status")
    if not isinstance(status, dict):
        return {}
    found = {}
    for key in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        for each in _list(status.get(key)):
            if isinstance(each, dict):
                digest = str(each.get("imageID") or "").rpartition("@")[2]
                if re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
                    found[str(each.get("name") or "")] = digest
    return found


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def shown(text: str) -> str:
    """A text of others for a message: on one line, and not endless."""
    plain = "".join(each if each.isprintable() else "?" for each in text)
    return repr(plain if len(plain) <= _SHOWN else f"{plain[:_SHOWN]}…")
