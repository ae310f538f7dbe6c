"""Commands for sets of images: lock, store snapshot, promote, rollback, promotions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.profile_argument import ProfileFirst
from flows.cli.profile_commands import Json, ProfilePath, Registries, load, load_to_ask
from flows.cli.store_commands import store_app
from flows.reporting.console import out, print_json, say
from registry_server.counted import counted

if TYPE_CHECKING:
    from tasks.stored.promoting import PromotionPlan


def register(app: typer.Typer) -> None:
    app.command()(lock)
    app.command(cls=ProfileFirst)(promote)
    app.command()(rollback)
    app.command()(promotions)
    store_app.command(cls=ProfileFirst)(snapshot)
    store_app.command()(snapshots)


def lock(
    profile: ProfilePath,
    registry: Registries = None,
    to: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="The lock. Default: `mirrorflow.lock` beside the profile."
        ),
    ] = None,
) -> None:
    """Write down what a sync would take now: the digest of every image, a line each. Changes no store.

    `sync --locked` takes exactly that; `plan` shows what has changed since. Prints the difference to the lock
    that was there.

    Exit code 0: it was written; 1: something could not be checked, and nothing was written.
    """
    from flows.cli.plan import plan_entries
    from flows.cli.releasing.locks import difference_lines, in_words, lock_path, write_lock
    from flows.entries import selected_entries

    loaded = load_to_ask(profile)
    path = lock_path(loaded, to)
    entries = selected_entries(loaded.profile, registry)
    plans = plan_entries(loaded.profile, entries, weigh=True)
    difference = write_lock(path, plans)
    for line in difference_lines(difference):
        out.print(line, markup=False)
    images = counted(sum(len(plan.taken) for plan in plans), "image")
    say(f"{path}: {images}; {in_words(difference)}")


def snapshot(
    profile: ProfilePath,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the snapshot is called.")],
    repositories: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="REPO...",
            help="Repositories, as here; `*` and `**` as in `prefix`. Default: everything that is served.",
        ),
    ] = None,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete the snapshot; `store gc` may have what it kept.")
    ] = False,
) -> None:
    """Keep what the tags name now under a name. Copies nothing; `store gc` keeps what it names.

    `promote --snapshot NAME` takes the tags as they were then.
    """
    from flows.cli.releasing.promotions import delete_named, take_named
    from flows.entries import open_store

    store = open_store(load(profile).profile, create=False)
    say(delete_named(store, name) if delete else take_named(store, name, repositories or ()))


def snapshots(profile: ProfilePath, as_json: Json = False) -> None:
    """List the snapshots: when they were taken, by whom, and how many tags they have."""
    from flows.cli.releasing.promotions import snapshot_rows
    from flows.entries import open_store

    rows = snapshot_rows(open_store(load(profile).profile, create=False))
    if as_json:
        print_json({"snapshots": rows})
        return
    for row in rows:
        tags = counted(row["tags"], "tag")
        out.print(f"{row['name']}: {tags}, taken {row['taken']} by {row['by']}", markup=False)
    if not rows:
        say("there is no snapshot")


def promote(
    profile: ProfilePath,
    source: Annotated[
        str,
        typer.Argument(
            metavar="FROM", help="A repository, or the beginning of repository names up to a slash, here."
        ),
    ],
    target: Annotated[
        str,
        typer.Argument(
            metavar="TO",
            help="What stands there instead; or a destination by its name, `NAME:PREFIX` for a prefix there.",
        ),
    ],
    *,
    from_snapshot: Annotated[
        str | None,
        typer.Option("--snapshot", metavar="NAME", help="The tags as a snapshot has them, and not as now."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change, and the verdicts; change nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Let the tags below TO name what the tags below FROM name, e.g. `promote dev prod`: all of them or none.

    Every image is judged first: by the policy that covers where it came from, and by the rule of `verify`
    that names where it goes. All that it needs has to be in the store. Clients see all tags change at once.
    Copies no content, and removes no tag.

    Into another registry (`promote dev harbor:prod`) content goes first, and then one tag after the other. If
    one of them fails, all are set back.

    Exit code 0: done, or nothing to do; 1: an image was refused, and nothing was changed; with --dry-run 2:
    there is something to do.
    """
    from flows.cli.releasing.promotions import change_lines, promote_tags, promoter
    from flows.entries import open_store
    from registry_server.store.mirror_state.snapshots import read_snapshot

    loaded = load(profile).profile
    source, target = source.rstrip("/"), target.rstrip("/")
    store = open_store(loaded, create=False)
    snapshot = None if from_snapshot is None else read_snapshot(store, from_snapshot)
    if dry_run:
        _show_plan(promoter(loaded, store).plan(source, target, snapshot), as_json=as_json)
        return
    change = promote_tags(loaded, store, source, target, snapshot)
    if as_json:
        print_json({"change": change and change.to_json()})
    elif change is None:
        say(f"nothing to do: what is below {target} names the same already")
    else:
        for line in change_lines(change):
            out.print(line, markup=False)


def rollback(
    profile: ProfilePath,
    change: Annotated[
        str | None,
        typer.Option(
            "--change", metavar="ID", help="A promotion, as `promotions` lists it. Default: the last one."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Take a promotion back: its tags name what they named before, all of them or none.

    Refused when a tag was moved since, or when a policy refuses by now what it named in the store. Exit code
    0: done; 1: nothing was changed.
    """
    from flows.cli.releasing.promotions import change_lines, roll_back
    from flows.entries import open_store

    loaded = load(profile).profile
    found = roll_back(loaded, open_store(loaded, create=False), change)
    if as_json:
        print_json({"change": found.to_json()})
        return
    for line in change_lines(found):
        out.print(line, markup=False)


def promotions(profile: ProfilePath, as_json: Json = False) -> None:
    """List promotions and rollbacks, the newest last: who, when, what changed; with --json the verdicts."""
    from flows.cli.releasing.promotions import done_changes
    from flows.entries import open_store

    found = done_changes(open_store(load(profile).profile, create=False))
    if as_json:
        print_json({"changes": [each.to_json() for each in found]})
        return
    for each in found:
        tags = counted(len(each.tags), "tag")
        out.print(f"{each.id}  {each.when}  {each.by}  {each.what}: {tags}", markup=False)
    if not found:
        say("nothing was promoted yet")


def _show_plan(plan: PromotionPlan, *, as_json: bool) -> None:
    from flows.cli.releasing.promotions import plan_json, plan_lines

    if as_json:
        print_json(plan_json(plan))
    else:
        for line in plan_lines(plan):
            out.print(line, markup=False)
    if plan.problems:
        raise typer.Exit(1)
    if plan.tags:
        raise typer.Exit(2)
