"""What the `bundle` commands do."""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from flows.cli.stored_tags import repository_globs
from flows.maintenance.operator_audit import OperatorAudit
from flows.reporting.progress_bars import progress_line
from registry_server.bundles.base_check import check_base
from registry_server.bundles.create import BundleRequest, write_bundle
from registry_server.bundles.errors import BundleError, BundleUnwritable
from registry_server.bundles.fields import written
from registry_server.bundles.inventory import take_inventory
from registry_server.bundles.reading import Bundle
from registry_server.bundles.state import Issued, last_applied, note_issued
from registry_server.counted import counted
from registry_server.human_units import human_bytes
from registry_server.whole_file import write_whole
from tasks.stored.bundles.applying import Applying, apply_bundle
from tasks.stored.bundles.statements import Trusted, sign_bundle, sign_inventory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from profiles.model.profile import Profile
    from registry_server.bundles.document import BundleDocument
    from registry_server.bundles.inventory import Inventory
    from registry_server.bundles.state import AppliedBundle
    from registry_server.store.store import Store
    from tasks.stored.bundles.statements import StatementSigner


_FEW: Final = 3  # tags that are named one by one


class NoReceipt(BundleError):
    """No bundle was applied of which there could be one."""


@dataclass(frozen=True, slots=True)
class WrittenInventory:
    """An inventory, or a receipt, and how many bytes its file has."""

    inventory: Inventory
    size: int

    @property
    def summary(self) -> str:
        images, contents = len(self.inventory.images), len(self.inventory.contents)
        return (
            f"{counted(images, 'tag')}, {counted(contents, 'content')}, {human_bytes(self.size)}; "
            f"its digest is {self.inventory.id}"
        )


def now() -> str:
    """As bundles have times."""
    return written(datetime.now(UTC))


def write_inventory(store: Store, signer: StatementSigner, path: Path) -> WrittenInventory:
    """Take one, sign it, remember it. Raises `BundleUnwritable`, `StoreError`, and what the signer raises."""
    last = last_applied(store)
    found = take_inventory(store, now())
    signed = sign_inventory(signer, found)
    note_issued(store, Issued(found.id, found.taken, last.bundle if last else ""))
    _write(path, signed)  # killed before this, there is none that nobody knows of
    return WrittenInventory(found, len(signed))


def write_receipt(store: Store, signer: StatementSigner, path: Path) -> WrittenInventory:
    """As `write_inventory`, with what became of the last bundle. Raises `NoReceipt` as well."""
    last = last_applied(store)
    if last is None:
        raise NoReceipt(
            f"no bundle was applied to the store in {store.root}; 'bundle inventory' lists what it has"
        )
    if not last.finished:
        raise NoReceipt(
            f"the bundle {last.bundle.short}, which was begun at {last.begun}, is not applied to its end; "
            "run 'bundle apply' with it again"
        )
    refused = {each.image: each.members for each in last.refused}
    found = take_inventory(store, now(), refused)
    signed = sign_inventory(signer, found, last)
    note_issued(store, Issued(found.id, found.taken, last.bundle))
    _write(path, signed)
    return WrittenInventory(found, len(signed))


class NothingNamed(BundleError):
    """No repository is what the patterns say: a mistake, where an empty bundle would look like success."""


@dataclass(frozen=True, slots=True)
class BundleOrder:
    """What `bundle create` was asked for; as of `BundleRequest`, with the file of the inventory."""

    folder: Path
    profile_sha256: str
    patterns: tuple[str, ...] = ()
    split: int = 0
    inventory: Path | None = None
    again: bool = False


def create_bundle(
    profile: Profile, store: Store, signer: StatementSigner, order: BundleOrder
) -> Iterator[str]:
    """Lines that say what was done.

    Raises `BundleError`, `NotTrusted`, `StoreError`, and what the signer raises.
    """
    known, refused = None, dict[str, str]()
    if order.inventory is not None:
        signed = Trusted.of(profile).read_inventory(order.inventory)
        known, refused = signed.inventory, signed.refused
        yield f"for the inventory {known.id.short} of {known.taken}, signed by {signed.who}"
    globs = repository_globs(order.patterns)
    if globs and not any(glob.matches(name) for name in store.repositories() for glob in globs):
        raise NothingNamed(
            f"the store has no repository {' or '.join(map(repr, order.patterns))}; 'mirrorflow store ls' "
            "lists what it has, and `**` in a pattern goes across slashes, as in 'team/**'"
        )
    request = BundleRequest(
        order.profile_sha256,
        known,
        order.patterns,
        lambda name: not globs or any(glob.matches(name) for glob in globs),
        order.split,
        order.again,
    )

    def sign(document: BundleDocument, body: bytes) -> bytes:
        return sign_bundle(signer, document, body)

    with progress_line("reading the store") as line:
        document = write_bundle(store, order.folder, request, now(), sign, told=_shown(line.show))
    left_out = {
        name: why + (f": {_printable(refused[name])}" if refused.get(name) else "")
        for name, why in document.left_out.items()
    }
    for names, why in together(left_out.items()):
        yield f"left out {names}: {why}"
    if not document.images:
        yield f"nothing to carry: {'the other side has everything' if known else 'there is no image here'}"
        return
    yield f"{order.folder}: {_in_words(document)}"


def together(images: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Images, and why; many tags of one repository with one reason are one line."""
    groups: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for image, reason in images:
        groups[image.rpartition(":")[0], reason].append(image.rpartition(":")[2])
    for (repository, reason), tags in groups.items():
        if len(tags) <= _FEW:
            yield from ((f"{repository}:{tag}", reason) for tag in tags)
        else:
            yield f"{repository}: {counted(len(tags), 'tag')} ({', '.join(tags[:_FEW])}, …)", reason


def verify_bundle(profile: Profile, folder: Path) -> Iterator[str]:
    """Lines that say what it is. Raises `BundleError`, `NotTrusted`, `TrustBroken`."""
    with _opened(profile, folder) as (bundle, who):
        yield f"{folder}: signed by {who}"
        document, base = bundle.document, bundle.document.base
        wanted = f"the inventory {base.inventory.short} of {base.taken}" if base else "any store"
        yield f"made at {document.created} for {wanted}"
        _check(bundle)
        yield f"every byte is as it was made: {_in_words(document)}"


def apply_in_store(
    profile: Profile, store: Store, folder: Path, *, older: bool, told: Callable[[str], None]
) -> AppliedBundle:
    """Verify all of a bundle, then apply it. Raises `AuditUnusable`, and as `verify_bundle` and
    `apply_bundle` do."""
    audit = OperatorAudit.of(profile)
    with _opened(profile, folder) as (bundle, who):
        told(f"{folder}: signed by {who}")
        check_base(store, bundle, older=older)
        _check(bundle)
        with progress_line("applying") as line:
            applying = Applying(
                audit.user, who, now, older, told=lambda image, _reason: line.show(f"applying {image}")
            )
            applied = apply_bundle(profile, store, bundle, applying)
    audit.applied(applied)
    count, refused = len(applied.applied), len(applied.refused)
    told(f"{counted(count, 'tag')} applied, {refused} refused")
    return applied


@contextmanager
def _opened(profile: Profile, folder: Path) -> Iterator[tuple[Bundle, str]]:
    """A bundle whose manifest was signed by somebody whom the profile trusts, and who that is."""
    trusted = Trusted.of(profile)
    who: list[str] = []
    with Bundle.open(folder, lambda digest: who.append(trusted.check_bundle(folder, digest))) as bundle:
        yield bundle, who[0]


def _check(bundle: Bundle) -> None:
    size, done = bundle.document.tar.size, 0
    with progress_line("verifying") as line:
        show = _shown(line.show, "verifying")

        def told(count: int) -> None:
            nonlocal done
            done += count
            show(done, size)

        bundle.check(told)


def _shown(show: Callable[[str], None], what: str = "writing") -> Callable[[int, int], None]:
    return lambda done, size: show(f"{what}: {human_bytes(done)} of {human_bytes(size)}")


def _in_words(document: BundleDocument) -> str:
    size = sum(each.size for each in document.parts)
    return (
        f"{counted(len(document.images), 'tag')}, {counted(len(document.contents), 'content')}, "
        f"{human_bytes(size)} in {counted(len(document.parts), 'part')}"
    )


def _printable(text: str) -> str:
    """The other side's words for a terminal."""
    return "".join(each if each.isprintable() else " " for each in text)[:500]


def _write(path: Path, content: bytes) -> None:
    try:
        write_whole(path, content)
    except OSError as error:
        raise BundleUnwritable(f"{path} cannot be written: {error.strerror}") from error
