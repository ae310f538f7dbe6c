"""Commands that mirror: sync, rerun, up, receive, deploy, demo."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli.profile_argument import PROFILE_VARIABLE
from flows.cli.profile_commands import Json, ProfilePath, Registries, load, load_to_ask
from flows.reporting.console import err, out, print_json_list, say

_INTERRUPTED = 130


class WorkPoolType(StrEnum):
    PROCESS = "process"
    DOCKER = "docker"
    KUBERNETES = "kubernetes"


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
    app.command()(up)
    app.command()(receive)
    app.command()(deploy)
    app.command()(demo)


def sync(
    profile: ProfilePath,
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
    as_json: Json = False,
) -> None:
    """Copy everything that the profile wants into the store, once.

    An entry that is only fetched on demand is mirrored whole when --registry names it.
    Uses the Prefect server of a running `mirrorflow up` or of PREFECT_API_URL; where there is none, it runs
    without. Ctrl-C stops it cleanly, and the next run goes on from there.

    Exit code 0: everything is in place; 1: something failed; 130: stopped.
    """
    from flows.entries import only_on_demand, selected_entries
    from flows.orchestration.sync import SyncRequest, sync_entries

    loaded = load_to_ask(profile)
    entries = selected_entries(loaded.profile, registry)
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


def up(
    profile: ProfilePath,
    prefect_port: Annotated[
        int | None, typer.Option(help="Port of the Prefect server and UI. Default: 4200, or a free one.")
    ] = None,
) -> None:
    """Run the mirror: Prefect with its UI, the schedules of the profile, and the registry server.

    A profile that changes on disk is applied. With PREFECT_API_URL set, that server is used. Ctrl-C stops
    all of it.
    """
    from flows.supervisor.up import run_up

    load(profile)
    run_up(profile, prefect_port=prefect_port, console=err)


def receive(
    profile: ProfilePath,
    address: Annotated[
        str | None,
        typer.Option("--address", help="Address to listen on. Default: http.onMiss.receiver.address."),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            "--port", min=0, max=65535, help="Default: http.onMiss.receiver.port; 0: any that is free."
        ),
    ] = None,
    url: Annotated[
        str,
        typer.Option(
            "--url", metavar="URL", help="How registry servers reach it. Default: http://, its host and port."
        ),
    ] = "",
    notifications: Annotated[
        bool, typer.Option("--notifications", help="Take push notifications (sync.notifications) as well.")
    ] = False,
) -> None:
    """Fetch what clients of registry servers miss (onDemand), without schedules and without a server.

    Any number of receivers may run over one store, on any hosts: servers (`serve`, `up`) find them in the
    store, or in http.onMiss.urls. Each repository belongs to one, and the others stand in for one that is
    down. With PREFECT_API_URL set, their work is shown there.
    """
    from flows.receiver.standalone import ListenAddress, run_receiver

    loaded = load_to_ask(profile).profile
    run_receiver(profile, loaded, ListenAddress(address, port, url), notifications=notifications, say=say)


def deploy(
    profile: ProfilePath,
    *,
    work_pool: Annotated[
        str | None,
        typer.Option("--work-pool", metavar="POOL", help="The work pool whose workers run the flows."),
    ] = None,
    create_pool: Annotated[
        WorkPoolType | None,
        typer.Option(
            "--create-pool",
            help="Make a work pool of this type if there is none. The template for kubernetes has volumes.",
        ),
    ] = None,
    job_variable: Annotated[
        list[str] | None,
        typer.Option(
            "--job-variable",
            "-j",
            metavar="NAME=VALUE",
            help="A job variable for all entries, as image=… or env.HTTPS_PROXY=…; may be repeated. "
            "It wins over `deployment.jobVariables` of the profile.",
        ),
    ] = None,
    profile_block: Annotated[
        str | None,
        typer.Option(
            "--profile-block",
            metavar="NAME",
            help="Keep the text of the profile in this block of the Prefect server: hosts need no file. The "
            "files that it names (credentials, keys) are not copied.",
        ),
    ] = None,
    git: Annotated[
        str | None,
        typer.Option(
            "--git", metavar="URL", help="Each run takes the profile from a clone of this repository."
        ),
    ] = None,
    branch: Annotated[
        str | None, typer.Option("--branch", metavar="NAME", help="For --git. Default: the repository's.")
    ] = None,
    git_secret: Annotated[
        str | None,
        typer.Option(
            "--git-secret",
            metavar="NAME",
            help="For --git: the Secret block of Prefect with the token for the repository.",
        ),
    ] = None,
) -> None:
    """Register the deployments with an existing Prefect server (PREFECT_API_URL).

    Workers of the work pool then run them. It also registers automations that mark runs as crashed whose host
    has died.
    """
    from flows.orchestration.work_pools.deploy import DeployRequest, deploy_profile
    from flows.orchestration.work_pools.job_variables import parse_variables

    request = DeployRequest(
        work_pool=work_pool,
        create_pool=create_pool.value if create_pool else None,
        job_variables=parse_variables(job_variable or ()),
        profile_block=profile_block,
        git=git,
        branch=branch,
        git_secret=git_secret,
    )
    for line in deploy_profile(load(profile), request):
        out.print(line, markup=False)


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
