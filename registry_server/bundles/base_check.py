"""Whether a bundle may be applied to this store now: made for what it holds, and not older than that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry_server.bundles.errors import WrongBase
from registry_server.bundles.state import find_issued, last_applied

if TYPE_CHECKING:
    from registry_server.bundles.reading import Bundle
    from registry_server.bundles.state import AppliedBundle
    from registry_server.store.store import Store

_AGAIN = "take one with 'mirrorflow bundle inventory' here, and create the bundle with --for it"


def check_base(store: Store, bundle: Bundle, *, older: bool = False) -> None:
    """The one that was applied last, wholly or in part, may be applied again: so an interrupted one goes on.

    `older`: also one that was made before the last one, which takes tags back. Raises `WrongBase` that says
    which inventory is needed, and `StoreError`.
    """
    last = last_applied(store)
    if last is not None and last.bundle == bundle.digest:
        return
    # Of its own source: one of another store in between must not let tags go back.
    _check_age(bundle, last_applied(store, source=bundle.document.store), older=older)
    base = bundle.document.base
    if base is None:
        return
    if base.store != store.uuid:
        raise WrongBase(f"the bundle was made for the store {base.store}, and this is {store.uuid}: {_AGAIN}")
    issued = find_issued(store, base.inventory)
    made_for = f"the bundle was made for the inventory {base.inventory.short} of {base.taken}"
    if issued is None:
        raise WrongBase(f"{made_for}, which this store never gave out: {_AGAIN}")
    if issued.after != (last.bundle if last else ""):
        assert last is not None, "what was applied stays on record"
        raise WrongBase(f"{made_for}, and the bundle {last.bundle.short} was applied since: {_needed(last)}")


def _check_age(bundle: Bundle, last: AppliedBundle | None, *, older: bool) -> None:
    document = bundle.document
    if last is None or older or last.bundle == bundle.digest or document.created > last.created:
        return
    raise WrongBase(
        f"the bundle is of {document.created}, and one of {last.created} was applied already, so its tags "
        "would go back; if that is wanted, add --older"
    )


def _needed(last: AppliedBundle) -> str:
    if not last.finished:
        return f"that one was not finished: apply it again first, or {_AGAIN}"
    return (
        "needed is one for the receipt of that bundle ('mirrorflow bundle receipt'), or for a new inventory "
        "('mirrorflow bundle inventory')"
    )
