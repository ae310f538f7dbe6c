"""Commands over a store: serve, status, audit."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli.profile_commands import Json, ProfilePath, load
from flows.reporting.console import print_json, say

_ROWS = 60


def register(app: typer.Typer) -> None:
    app.command()(serve)
    app.command()(status)
    app.command()(audit)


def serve(
    profile: ProfilePath,
    workers: Annotated[
        int,
        typer.Option(
            "--workers",
            metavar="N",
            min=1,
            max=256,
            help="Processes that share the port; one uses one core. /metrics adds them up.",
        ),
    ] = 1,
    address: Annotated[
        str | None, typer.Option("--address", help="Address to listen on. Default: http.address.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", min=0, max=65535, help="Default: http.port; 0: any that is free."),
    ] = None,
) -> None:
    """Serve the store as a registry, without mirroring into it.

    Receivers (`mirrorflow receive`) fetch what is not there, if http.onMiss says how to call them. Any number
    of servers may serve one store, on one host or on several (docs/scaling.md).
    """
    from dataclasses import replace

    from flows.entries import store_uuid
    from flows.receiver.call_options import call_options
    from flows.reporting.page.application import with_page
    from profiles.server_options import server_options
    from registry_server.http.serve import serve as serve_registry

    given: dict[str, Any] = {"address": address, "port": port}
    chosen = {name: value for name, value in given.items() if value is not None}
    loaded = load(profile)
    call = call_options(loaded.profile, store_uuid(loaded.profile))
    options = with_page(server_options(loaded.profile), loaded.profile, loaded.path)
    options = replace(options, workers=workers, on_miss=call, **chosen)
    serve_registry(
        options, on_listening=lambda url: say(f"serving {options.root} at {url}; press Ctrl-C to stop")
    )


def status(
    profile: ProfilePath,
    *,
    registry: Annotated[
        str | None, typer.Option("--registry", "-r", metavar="NAME", help="Only this registry entry.")
    ] = None,
    problems: Annotated[bool, typer.Option("--problems", help="Only what is not in place.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Every tag, however many there are.")] = False,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch", "-w", help="Repeat the table until Ctrl-C, with what is not in place and what arrives."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Show whether the mirror is complete: what the upstream and the store have of every tag, and why not.

    An entry of the profile that never ran is not complete, nor is one whose last success is older than its
    pollInterval or schedule allows. A run for some images only (`sync --image`) is no entry's last run.

    Exit code 0: everything that the profile wants is in place; 2: something is not; 1: an error.
    """
    from flows.cli.status import arriving_in, print_status, watch_status
    from flows.reporting.mirror_status import mirror_status

    loaded = load(profile)
    if watch:
        if as_json:
            raise typer.BadParameter("--watch repeats a table in the terminal; leave out --json")
        last = watch_status(lambda: mirror_status(loaded, registry, time.time()), arriving_in(loaded.profile))
        raise typer.Exit(0 if last.is_complete else 2)
    found = mirror_status(loaded, registry, time.time())
    shown = found.only_problems() if problems else found
    if as_json:
        print_json(shown.to_json())
    else:
        print_status(shown, limit=None if everything or problems else _ROWS)
    raise typer.Exit(0 if found.is_complete else 2)


def audit(
    profile: ProfilePath,
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="Every image, not only those that fall short.")
    ] = False,
    as_json: Json = False,
    attest: Annotated[
        str | None,
        typer.Option(
            "--attest",
            metavar="KEY",
            help="Sign the result with this private key (PEM); a password is read from "
            "MIRRORFLOW_ATTEST_PASSWORD or COSIGN_PASSWORD. Or `keyless`: with the identity of the CI job or "
            "of the OIDC token in SIGSTORE_ID_TOKEN, which needs Fulcio and a transparency log.",
        ),
    ] = None,
    sigstore: Annotated[
        Path | None,
        typer.Option(
            "--sigstore",
            metavar="FILE",
            help="With `--attest keyless`: the ClientTrustConfig (JSON) of a private Sigstore. Default: "
            "the public one.",
        ),
    ] = None,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="Where the signed statement is written."),
    ] = Path("audit.sigstore.json"),
) -> None:
    """Judge every stored image by today's policies, from the signatures in the store. Changes nothing there.

    Uses no network, unless it signs with `keyless`. An image that no policy covers is reported as such, and
    never as verified.

    Exit code 0: no image falls short; 2: one does; 1: an error.
    """
    from flows.cli.audit import Attestation, run_audit

    attestation = None if attest is None else Attestation.by(attest, output, sigstore)
    if not run_audit(load(profile), attestation, everything=everything, as_json=as_json):
        raise typer.Exit(2)
