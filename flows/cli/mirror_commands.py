"""Commands that mirror: sync, rerun, copy, demo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.profile_argument import PROFILE_VARIABLE
from flows.cli.profile_commands import Json, ProfilePath, Registries, load_to_ask
from flows.reporting.console import complain, out, print_json_list, say

if TYPE_CHECKING:
    from profiles.loader import LoadedProfile
    from profiles.model.registry_entry import RegistryEntry

_INTERRUPTED = 130


WithPrefect = Annotated[
    bool,
    typer.Option(
        "--prefect",
        help="Start a Prefect server for the run, where none is there; `up` shows it later.",
    ),
]


def register(app: typer.Typer) -> None:
    app.command()(sync)
    app.command()(rerun)
    app.command("copy")(copy)
    app.command()(demo)


def sync(
    profile: ProfilePath,
    *,
    registry: Registries = None,
    image: Annotated[
        list[str] | None,
        typer.Option(
            "--image",
            "-i",
            metavar="REF",
            help="Only this image or repository, by its name here or upstream; may be repeated.",
        ),
    ] = None,
    prefect: WithPrefect = False,
    locked: Annotated[
        bool,
        typer.Option(
            "--locked", help="Exactly the images and digests of the lock, and not what is upstream now."
        ),
    ] = False,
    lock: Annotated[
        Path | None,
        typer.Option(
            "--lock",
            metavar="FILE",
            help="With `--locked`: the lock. Default: `mirrorflow.lock` beside the profile.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Copy everything that the profile wants into the store, once.

    An entry that is only fetched on demand is mirrored whole when --registry names it.
    Uses the Prefect server of a running `mirrorflow up` or of PREFECT_API_URL; where there is none, it runs
    without. Ctrl-C stops it cleanly, and the next run goes on from there.

    With --locked, tags move to the digests of the lock, also back to older ones; what the upstream no longer
    has is an error. This runs without Prefect.

    Exit code 0: everything is in place; 1: something failed; 130: stopped.
    """
    from flows.entries import only_on_demand, selected_entries
    from flows.orchestration.sync import SyncRequest, sync_entries

    loaded = load_to_ask(profile)
    entries = selected_entries(loaded.profile, registry)
    if locked or lock:
        _sync_locked(loaded, entries, lock, image, as_json=as_json)
        return
    if not registry and (left := only_on_demand(loaded.profile)):
        say(f"only fetched on demand; --registry mirrors all of it: {', '.join(left)}")
    requests = [SyncRequest(entry, tuple(image or ())) for entry in entries]
    reports: list[Mapping[str, Any]] = []
    try:
        ended = sync_entries(loaded, requests, prefect=prefect, show=reports.append if as_json else None)
    finally:
        if as_json:
            order = [entry.name for entry in entries]  # they ran side by side
            print_json_list(sorted(reports, key=lambda report: order.index(str(report["registry"]))))
    _end(ended)


def _sync_locked(
    loaded: LoadedProfile,
    entries: Sequence[RegistryEntry],
    lock: Path | None,
    image: Sequence[str] | None,
    *,
    as_json: bool,
) -> None:
    from flows.cli.releasing.locks import lock_path, locked_requests, not_as_locked
    from flows.orchestration.sync import sync_entries
    from profiles.lock_file import LockFile

    if image:
        raise typer.BadParameter("--locked takes all images of the lock; drop --image")
    requests = locked_requests(loaded.profile, LockFile.read(lock_path(loaded, lock)), entries)
    reports: list[Mapping[str, Any]] = []
    ended = sync_entries(loaded, requests, show=reports.append if as_json else None)
    if as_json:
        print_json_list(sorted(reports, key=lambda report: str(report["registry"])))
    missed = list(not_as_locked(loaded.profile, requests)) if ended is not None else []
    for line in missed:
        complain(line)
    _end(None if ended is None else ended and not missed)


def rerun(
    profile: Annotated[
        str | None,
        typer.Argument(metavar="[PROFILE]", help="A profile; not needed with --profile."),
    ] = None,
    run: Annotated[
        str | None,
        typer.Argument(metavar="[RUN]", help="The id of a run, as in the UI's address and in reports."),
    ] = None,
    by_option: Annotated[
        Path | None,
        typer.Option(
            "--profile",
            "-p",
            metavar="PROFILE",
            envvar=PROFILE_VARIABLE,
            help="The profile whose runs to look for.",
        ),
    ] = None,
    last_failed: Annotated[
        bool,
        typer.Option("--last-failed", help="The newest failed run of each registry entry (the default)."),
    ] = False,
    prefect: WithPrefect = False,
) -> None:
    """Start a run for exactly the images that failed in an earlier one."""
    from flows.orchestration.sync import rerun_requests, sync_entries

    path, run = _of_rerun(profile, run, by_option)
    if run and last_failed:
        raise typer.BadParameter("give a run or --last-failed, not both")
    loaded = load_to_ask(path)
    requests = rerun_requests(loaded.profile, run)
    if not requests:
        out.print("nothing to run again: nothing failed in the last run of any registry entry")
        return
    for request in requests:
        say(f"{request.entry.name}: {', '.join(request.only) or 'everything'}")
    _end(sync_entries(loaded, requests, prefect=prefect))


def _of_rerun(first: str | None, second: str | None, by_option: Path | None) -> tuple[Path, str | None]:
    """Which profile, and which run: a single word beside --profile is a run, unless there is such a file."""
    if by_option is not None and second is None and not (first and Path(first).is_file()):
        return by_option, first
    if first is None:
        raise typer.BadParameter("no profile is given; write e.g. 'mirrorflow rerun profile.yaml'")
    return Path(first), second


def copy(
    source: Annotated[
        str, typer.Argument(metavar="SRC", help="An image: registry/repository:tag, or with @sha256:….")
    ],
    target: Annotated[
        str, typer.Argument(metavar="DST", help="Where it goes; without a tag it keeps its own.")
    ],
    *,
    profile: Annotated[
        Path | None,
        typer.Option(
            "--profile",
            "-p",
            metavar="PROFILE",
            envvar=PROFILE_VARIABLE,
            help="A profile whose logins and policies are taken, and its settings for the two hosts.",
        ),
    ] = None,
    platform: Annotated[
        list[str] | None,
        typer.Option(help="Only this platform of an index, e.g. linux/amd64; may be repeated."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite a tag that names something else there.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Copy one image from one registry to another, with its signatures and other referrers.

    It goes through the steps of a sync, and leaves nothing on this machine. A registry without TLS is
    written with http:// before it. Logins are those of docker and podman, unless a profile names others.
    minAge does not hold.

    Exit code 0: it is there; 1: it is not.
    """
    from flows.cli.copy_image import copy_image, is_copied, lines_of

    base = load_to_ask(profile).profile if profile is not None else None
    report = copy_image(source, target, base, force=force, platforms=platform or ())
    if as_json:
        print_json_list([report.to_json()])
    else:
        for line in lines_of(report, target):
            out.print(line, markup=False)
    _end(is_copied(report))


def demo(
    folder: Annotated[
        Path, typer.Option(help="Where the sample registry, its mirror and the profile are kept.")
    ] = Path("mirrorflow-demo"),
    once: Annotated[
        bool, typer.Option("--once", help="Exit after the first run instead of serving.")
    ] = False,
) -> None:
    """Mirror a small sample registry on this machine, and show what to look at. Needs no network."""
    from flows.demo.command import run_demo

    run_demo(folder, once=once)


def _end(complete: bool | None) -> None:
    if complete is None:
        raise typer.Exit(_INTERRUPTED)
    if not complete:
        raise typer.Exit(1)
