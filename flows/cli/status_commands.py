"""Commands over a store: serve, status, audit."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.profile_commands import Json, ProfilePath, load
from flows.reporting.console import out, say
from registry_server.counted import counted

if TYPE_CHECKING:
    from flows.reporting.tag_status import TagStatus

_ROWS = 60


def register(app: typer.Typer) -> None:
    app.command()(serve)
    app.command()(status)
    app.command()(audit)


def serve(profile: ProfilePath) -> None:
    """Serve the store as a registry, without mirroring into it."""
    from profiles.server_options import server_options
    from registry_server.http.serve import serve as serve_registry

    options = server_options(load(profile).profile)
    serve_registry(
        options, on_listening=lambda url: say(f"serving {options.root} at {url}; press Ctrl-C to stop")
    )


def status(
    profile: ProfilePath,
    registry: Annotated[
        str | None, typer.Option("--registry", "-r", metavar="NAME", help="Only this registry entry.")
    ] = None,
    problems: Annotated[bool, typer.Option("--problems", help="Only what is not in place.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Every tag, however many there are.")] = False,
    as_json: Json = False,
) -> None:
    """Show for every tag what the upstream has, what the store has, when it was checked, and what failed.

    Exit code 0: everything that the last runs wanted is in place; 2: something is not; 1: an error.
    """
    from flows.entries import find_entry, open_store
    from flows.orchestration.sync import newest_reports
    from flows.reporting.status_tables import render_counts, render_runs, render_tags
    from flows.reporting.tag_status import tag_statuses
    from tasks.stored.images import StoredImages, count_by_entry

    loaded = load(profile).profile
    if registry is not None:
        find_entry(loaded, registry)
    store = open_store(loaded, create=False)
    short, now = StoredImages(loaded, store).shortfalls(), time.time()
    every = tag_statuses(store, registry, short=short, entries=loaded.entry_names(), now=now)
    rows = [row for row in every if not (problems and row.in_place)]
    reports = newest_reports(store.reports.load_all(registry))
    if as_json:
        document = {
            "runs": list(reports.values()),
            "policies": count_by_entry(short),
            "tags": [row.to_json() for row in rows],
        }
        typer.echo(json.dumps(document, indent=2))
    else:
        out.print(render_runs(store.root, list(reports.values()), now))
        for line in render_counts(count_by_entry(short)):
            out.print(line)
        shown = (
            rows
            if everything or problems or len(rows) <= _ROWS
            else [row for row in rows if not row.in_place or row.held_back or row.gone_since]
        )
        if shown:
            out.print(render_tags(shown, now))
        elif reports and problems:
            out.print("every tag that the profile wants is in place")
        if len(shown) < len(rows):
            hidden = len(rows) - len(shown)
            say(f"not listed, because in place: {counted(hidden, 'tag')}; --all lists them")
    raise typer.Exit(_exit_code(rows, [report["state"] for report in reports.values()]))


def _exit_code(rows: list[TagStatus], states: list[str]) -> int:
    return 0 if all(row.in_place for row in rows) and all(state == "complete" for state in states) else 2


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
