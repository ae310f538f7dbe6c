"""`mirrorflow store …`: look after what is kept."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.profile_argument import ProfileFirst
from flows.cli.profile_commands import Json, ProfilePath, Registries, load
from flows.cli.usage import PlainTyper
from flows.reporting.console import complain, is_narrow, out, print_json, say
from registry_server.counted import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry_server.store.gc.gc_report import Removal

store_app = PlainTyper(
    name="store",
    help="Maintain the store: list, remove, collect garbage, verify, measure, export, import.",
    no_args_is_help=True,
)


def register(app: typer.Typer) -> None:
    for command in (gc, scrub, stats, prune):
        store_app.command()(command)
    store_app.command(cls=ProfileFirst)(ls)
    store_app.command(cls=ProfileFirst)(rm)
    store_app.command(cls=ProfileFirst)(export)
    store_app.command(cls=ProfileFirst)(undelete)
    store_app.command("import", cls=ProfileFirst)(import_)
    app.add_typer(store_app)


def ls(
    profile: ProfilePath,
    repositories: Annotated[
        list[str] | None,
        typer.Argument(metavar="REPO...", help="Repositories, as here; `*` and `**` as in `prefix`."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the tags that are stored, with their digests and where they came from. Asks no upstream."""
    from flows.cli.stored_tags import stored_tags
    from flows.entries import open_store
    from flows.reporting.status_tables import render_stored, render_stored_narrow

    store = open_store(load(profile).profile, create=False)
    found = list(stored_tags(store, repositories or ()))
    if as_json:
        print_json({"tags": [each.to_json() for each in found]})
    elif found:
        out.print((render_stored_narrow if is_narrow(out) else render_stored)(found))
    else:
        say(f"no tag in {store.where}" + (f" matches {', '.join(repositories)}" if repositories else ""))


def rm(
    profile: ProfilePath,
    images: Annotated[list[str], typer.Argument(metavar="REPO:TAG...", help="Tags, as here.")],
) -> None:
    """Remove tags, with the signatures and other companions of their images.

    Clients cannot pull them any more; `store gc` gives the bytes back later, and until then `store undelete`
    restores them. A tag that a content rule takes comes back with the next run: change the rule first.
    """
    from flows.cli.stored_tags import remove_tags
    from flows.entries import open_store

    loaded = load(profile).profile
    for line in remove_tags(loaded, open_store(loaded, create=False), images):
        _told(line)


def gc(
    profile: ProfilePath,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be removed, and why; change nothing.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="List everything that is removed.")
    ] = False,
    purge: Annotated[
        bool, typer.Option("--purge", help="Empty the trash now instead of at the next collection.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Remove what no tag needs, and what the profile's retention does not keep; the server and runs continue.

    Exit code 0: every repository was checked; 1: an error, or one could not be read and was skipped.
    """
    from flows.entries import open_store
    from flows.maintenance.garbage_collection import collect_garbage, summary

    loaded = load(profile).profile
    store = open_store(loaded, create=False)
    gone: list[Removal] = []
    told = gone.append if as_json else _printer(everything=dry_run or verbose)
    report = collect_garbage(store, loaded, dry_run=dry_run, told=told)
    if purge and not dry_run:
        report = report.and_then(collect_garbage(store, loaded, told=told))
    if as_json:
        document = report.to_json() | {"removals": [asdict(each) for each in gone]}
        print_json(document)
    else:
        out.print(summary(report), markup=False)
    for problem in report.problems:
        complain(problem)
    raise typer.Exit(0 if report.well else 1)


def _printer(*, everything: bool) -> Callable[[Removal], None]:
    from registry_server.human_units import human_bytes

    def show(removal: Removal) -> None:
        if everything or removal.kind == "rehearsal":
            size = f" ({human_bytes(removal.size)})" if removal.size else ""
            kind = "by retention" if removal.kind == "rehearsal" else removal.kind
            out.print(f"{kind}: {removal.name}{size}: {removal.reason}", markup=False)

    return show


def scrub(
    profile: ProfilePath,
    rate: Annotated[
        float,
        typer.Option(
            "--rate", metavar="MB", help="Read at most this many megabytes per second; 0: no limit."
        ),
    ] = 0.0,
    again: Annotated[
        bool,
        typer.Option("--again", help="Start from the beginning instead of where the last scrub stopped."),
    ] = False,
    heal: Annotated[bool, typer.Option(help="Fetch missing and corrupt content from its upstream.")] = True,
    as_json: Json = False,
) -> None:
    """Hash everything in the store, quarantine what is corrupt, and fetch it again.

    Ctrl-C stops it; the next one continues from there. Exit code 0: all is well (again); 1: it was stopped,
    or something that a tag needs is still missing.
    """
    from flows.entries import open_store
    from flows.lifecycle.stop_signals import stop_on_signals
    from flows.maintenance.repair import refetch_damaged
    from registry_server.human_units import human_bytes
    from registry_server.store.maintenance.scrub import Pace, find_missing
    from registry_server.store.maintenance.scrub import scrub as scrub_store

    loaded = load(profile).profile
    store = open_store(loaded, create=False)
    with stop_on_signals() as sign:
        report = scrub_store(store, Pace(rate * 1e6, sign.event.is_set), again=again)
        for digest in report.corrupt:
            complain(f"{digest} is corrupt, and was moved to quarantine/")
        healed = refetch_damaged(store, loaded, stop=sign.event, told=say) if heal else []
    lost = [str(each) for each in find_missing(store)]
    if as_json:
        print_json(report.to_json() | {"healed": healed, "missing": lost})
    else:
        state = "" if report.complete else ", stopped before the end"
        out.print(
            f"{counted(report.blobs, 'blob')} hashed ({human_bytes(report.bytes)}){state}, "
            f"{len(report.corrupt)} corrupt, {len(healed)} fetched again, {len(lost)} missing",
            markup=False,
        )
    for each in lost:
        complain(each)
    raise typer.Exit(1 if lost or not report.complete else 0)


def stats(profile: ProfilePath, as_json: Json = False) -> None:
    """Show the size of the store: bytes, what sharing saves, and the share of each repository."""
    from flows.entries import open_store
    from flows.reporting.status_tables import render_stats
    from registry_server.store.maintenance.stats import stats as measure

    store = open_store(load(profile).profile, create=False)
    measured = measure(store)
    if as_json:
        print_json(measured.to_json())
        return
    for part in render_stats(store.where, measured):
        out.print(part)


def prune(
    profile: ProfilePath,
    registry: Registries = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove them, even if they exceed maxShare.")] = False,
) -> None:
    """List the tags that `prune` removes, because the upstream deleted them; remove them with --yes.

    Runs remove what is within `maxShare` by themselves. Uses the last poll, and asks no upstream; from the
    destinations of an entry they are removed too.

    Exit code 0: no tag is left to be removed; 2: one is.
    """
    from flows.entries import open_store
    from flows.maintenance.pruning import prune_entries

    loaded = load(profile).profile
    left = prune_entries(loaded, open_store(loaded, create=False), registry, yes=yes, told=_told)
    raise typer.Exit(2 if left else 0)


def undelete(
    profile: ProfilePath,
    images: Annotated[
        list[str] | None, typer.Argument(metavar="IMAGE...", help="`repository:tag`, by its local name.")
    ] = None,
) -> None:
    """Bring back tags that `prune` or `rm` removed, as long as their blobs are there.

    Without IMAGE: list them.
    """
    from flows.entries import open_store
    from flows.maintenance.pruning import list_pruned, undelete_images

    loaded = load(profile).profile
    store = open_store(loaded, create=False)
    for line in undelete_images(loaded, store, images) if images else list_pruned(store):
        _told(line)


def _told(line: str) -> None:
    out.print(line, markup=False)


def export(
    profile: ProfilePath,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE...", help="`repository:tag` or `repository@digest`, by its local name."
        ),
    ],
    to: Annotated[
        Path, typer.Option("--to", metavar="DIR|TAR", help="A folder, or a file that ends with `.tar`.")
    ],
) -> None:
    """Write images as an OCI image layout, which skopeo, podman, crane, ctr and oras read.

    They are added to a folder that is a layout already.
    """
    from flows.entries import open_store
    from registry_server.oci.reference import ImageName
    from registry_server.store.layout.exporter import export_images

    store = open_store(load(profile).profile, create=False)
    names = [ImageName.parse(each) for each in images]
    size = export_images(store, names, to)
    say(f"{counted(len(names), 'image')}, {counted(size, 'byte')}, in {to}")


def import_(
    profile: ProfilePath,
    source: Annotated[Path, typer.Argument(metavar="DIR|TAR", help="An OCI image layout.", exists=True)],
    repository: Annotated[
        str | None,
        typer.Option(
            "--repository", metavar="NAME", help="Target repository, for layouts that contain tags only."
        ),
    ] = None,
) -> None:
    """Import the images of an OCI image layout, every byte verified. Prints their names."""
    from flows.entries import open_store
    from flows.maintenance.operator_audit import OperatorAudit
    from registry_server.oci.reference import RepositoryName
    from registry_server.store.layout.importer import import_images

    loaded = load(profile).profile
    audit, store = OperatorAudit.of(loaded), open_store(loaded)
    target = None if repository is None else RepositoryName(repository)
    brought = import_images(store, source, target)
    audit.brought("import", store, brought)
    for name in brought:
        out.print(str(name), markup=False)
