"""What `store snapshot`, `promote`, `rollback` and `promotions` do."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flows.cli.stored_tags import repository_globs
from flows.maintenance.operator_audit import OperatorAudit, operator_name
from registry_server.counted import counted
from registry_server.store.mirror_state.snapshots import all_snapshots, delete_snapshot, take_snapshot
from registry_server.store.mirror_state.tag_switch import all_changes
from tasks.stored.promoting import Promoter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from profiles.model.profile import Profile
    from registry_server.store.mirror_state.snapshots import Snapshot
    from registry_server.store.mirror_state.tag_switch import Change, TagChange
    from registry_server.store.store import Store
    from tasks.stored.promoting import PromotionPlan


def take_named(store: Store, name: str, patterns: Sequence[str]) -> str:
    """Take a snapshot, and say so. Raises `SnapshotError`, `PatternInvalid`, `StoreError`."""
    globs = repository_globs(patterns)
    found = take_snapshot(
        store,
        name,
        taken=datetime.now(UTC).isoformat(timespec="seconds"),
        by=operator_name(),
        wanted=lambda each: not globs or any(glob.matches(each) for glob in globs),
    )
    return f"snapshot {name}: {counted(found.count, 'tag')}"


def delete_named(store: Store, name: str) -> str:
    """Raises `SnapshotError`, `StoreError`."""
    delete_snapshot(store, name)
    return f"deleted the snapshot {name}"


def snapshot_rows(store: Store) -> list[dict[str, Any]]:
    """Raises `StoreError`."""
    return [
        {"name": each.name, "taken": each.taken, "by": each.by, "tags": each.count}
        for each in all_snapshots(store)
    ]


def promoter(profile: Profile, store: Store) -> Promoter:
    """In the name of whoever runs this process."""
    return Promoter(profile, store, operator_name())


def promote_tags(
    profile: Profile, store: Store, source: str, target: str, snapshot: Snapshot | None
) -> Change | None:
    """Raises `AuditUnusable`, and as `Promoter.promote` does."""
    audit = OperatorAudit.of(profile)
    change = promoter(profile, store).promote(source, target, snapshot)
    if change is not None:
        audit.switched(change)
    return change


def roll_back(profile: Profile, store: Store, change: str | None) -> Change:
    """Raises `AuditUnusable`, and as `Promoter.rollback` does."""
    audit = OperatorAudit.of(profile)
    back = promoter(profile, store).rollback(change)
    audit.switched(back)
    return back


def done_changes(store: Store) -> list[Change]:
    """Oldest first. Raises `StoreError`."""
    return [each for each in all_changes(store) if each.done]


def change_lines(change: Change) -> Iterator[str]:
    """A line for each tag, and one for all."""
    for name, each in change.tags.items():
        yield _line(name, each)
    yield f"{change.id}: {change.what}: {counted(len(change.tags), 'tag')}"


def plan_lines(plan: PromotionPlan) -> Iterator[str]:
    """What would change, what is in the way."""
    for each in plan.tags:
        yield f"{_line(str(each.target), each.change)}: {each.change.verdict or 'a companion'}"
    for name, reason in plan.problems.items():
        yield f"! {name}: {reason}"
    yield (
        f"{counted(len(plan.tags), 'tag')} would change, {plan.unchanged:,} unchanged, "
        f"{counted(len(plan.problems), 'problem')}"
    )


def plan_json(plan: PromotionPlan) -> dict[str, Any]:
    return {
        "tags": [
            {
                "image": str(each.target),
                "from": str(each.source),
                "before": each.change.before and each.change.before.digest,
                "after": each.change.after and each.change.after.digest,
                "verdict": each.change.verdict,
            }
            for each in plan.tags
        ],
        "unchanged": plan.unchanged,
        "problems": plan.problems,
    }


def _line(name: str, change: TagChange) -> str:
    before = change.before.digest.short if change.before else "new"
    after = change.after.digest.short if change.after else "removed"
    return f"{name}: {before} -> {after}"
