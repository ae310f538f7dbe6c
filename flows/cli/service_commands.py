"""Commands that keep a mirror running: up, receive, deploy, notify."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.profile_commands import ProfilePath, load, load_to_ask
from flows.reporting.console import err, out, say


class WorkPoolType(StrEnum):
    PROCESS = "process"
    DOCKER = "docker"
    KUBERNETES = "kubernetes"


def register(app: typer.Typer) -> None:
    app.command()(up)
    app.command()(receive)
    app.command()(deploy)
    app.command()(notify)


def up(
    profile: ProfilePath,
    prefect_port: Annotated[
        int | None,
        typer.Option(
            envvar="MIRRORFLOW_PREFECT_PORT",
            help="Port of the Prefect server and UI. Default: 4200, or a free one.",
        ),
    ] = None,
    prefect_host: Annotated[
        str,
        typer.Option(
            envvar="MIRRORFLOW_PREFECT_HOST",
            help="Address that the Prefect server listens on; `0.0.0.0` in a container. Whoever reaches it "
            "may start and change runs, unless PREFECT_SERVER_API_AUTH_STRING is set.",
        ),
    ] = "127.0.0.1",
) -> None:
    """Run the mirror: Prefect with its UI, the schedules of the profile, and the registry server.

    A profile that changes on disk is applied. With PREFECT_API_URL set, that server is used. Ctrl-C stops
    all of it.
    """
    from flows.supervisor.up import run_up

    load(profile)
    run_up(profile, prefect_port=prefect_port, prefect_host=prefect_host, console=err)


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
    write: Annotated[
        Path | None,
        typer.Option(
            "--write",
            metavar="FILE",
            help="Write a prefect.yaml for `prefect deploy --all`, and its automations. Asks no server.",
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
        write=write,
    )
    for line in deploy_profile(load(profile), request):
        out.print(line, markup=False)


def notify(
    profile: ProfilePath,
    *,
    test: Annotated[
        bool, typer.Option("--test", help="Send a message that says it is a test, and nothing else.")
    ] = False,
    receiver: Annotated[
        list[str] | None,
        typer.Option("--receiver", metavar="NAME", help="Only this receiver; may be repeated."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be sent, as a CloudEvent a line.")
    ] = False,
) -> None:
    """Tell the receivers of `notify` what has changed since they were told last.

    `up`, `sync` and runs of workers do so by themselves. This is for a timer beside workers, which finds runs
    that are overdue, and to try a receiver.

    Exit code 0: everything has arrived; 1: something has not, and is kept for the next try.
    """
    from flows.reporting.notify.command import run_notify

    if not run_notify(load(profile), receiver or (), test=test, dry_run=dry_run):
        raise typer.Exit(1)
