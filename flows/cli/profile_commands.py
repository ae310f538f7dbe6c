"""Commands that look at a profile and change nothing: check, schema, starter, plan, explain."""

from __future__ import annotations

import json
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.profile_argument import PROFILE_VARIABLE, ProfileFirst
from flows.reporting.console import out, print_json, print_json_list, say, warn
from profiles.imports.program import Program

if TYPE_CHECKING:
    from profiles.loader import LoadedProfile
    from tasks.planning import Plan

ProfilePath = Annotated[
    Path,
    typer.Argument(
        metavar="PROFILE",
        envvar=PROFILE_VARIABLE,
        help="A profile (YAML, JSON or TOML), or a zot configuration.",
    ),
]
Registries = Annotated[
    list[str] | None,
    typer.Option("--registry", "-r", metavar="NAME", help="Only this registry entry; may be repeated."),
]


class PlanFormat(StrEnum):
    """How a plan is shown."""

    TEXT = "text"
    MARKDOWN = "markdown"


Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def register(app: typer.Typer) -> None:
    app.command()(check)
    app.command()(starter)
    app.command()(schema)
    app.command("import")(import_)
    app.command()(plan)
    app.command(cls=ProfileFirst)(explain)
    app.command(cls=ProfileFirst)(verify)


def load(path: Path) -> LoadedProfile:
    """Load a profile and say its warnings. Raises `ProfileError`."""
    from profiles.loader import load_profile

    loaded = load_profile(path)
    warn(loaded.warnings)
    return loaded


def load_to_ask(path: Path, *, strict: bool = False) -> LoadedProfile:
    """Load a profile for a command that asks upstreams: what fails all requests is an error, and with
    `strict` also what takes nothing. Raises `ProfileError` and `CredentialsInvalid`."""
    from flows.cli.check import require_usable
    from profiles.errors import Severity
    from profiles.loader import load_profile

    errors = {Severity.FAILS, Severity.TAKES_NOTHING} if strict else {Severity.FAILS}
    loaded = load_profile(path)
    warn(each for each in loaded.warnings if each.severity not in errors)
    require_usable(loaded, errors)
    return loaded


def check(
    profile: ProfilePath,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="For CI: a rule or an entry that mirrors nothing is an error as well."),
    ] = False,
) -> None:
    """Validate a profile: list every mistake, with its line and what to write instead.

    Exit code 0: it can be used; 1: it cannot.
    """
    from flows.cli.check import check_trust, describe_profile, stored_violations

    loaded = load_to_ask(profile, strict=strict)
    for line in describe_profile(loaded.profile):
        out.print(line, markup=False)
    check_trust(loaded.profile)
    for line in stored_violations(loaded.profile):
        out.print(line, markup=False)


def schema(
    lock: Annotated[bool, typer.Option("--lock", help="Of `mirrorflow.lock` instead of profiles.")] = False,
) -> None:
    """Print the JSON Schema of profiles, for editors."""
    from profiles import lock_file
    from profiles.docs.reference import json_schema

    typer.echo(json.dumps(lock_file.json_schema() if lock else json_schema(), indent=2))


def starter() -> None:
    """Print a sample profile with a comment for every key."""
    from profiles.examples.shipped import shipped_profile

    typer.echo(shipped_profile("starter").read_text(), nl=False)


def import_(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A configuration of regsync, the YAML of `skopeo sync --src yaml`, or replication policies "
            "as Harbor's API gives them (JSON).",
        ),
    ],
    program: Annotated[
        Program | None,
        typer.Option("--from", help="The format of the file. Default: detected from its content."),
    ] = None,
) -> None:
    """Print the profile that does the same, with a comment for what a profile cannot express.

    Passwords are not printed: a comment names the file for them.
    """
    from profiles.imports.importer import profile_text
    from profiles.loader import read_text

    typer.echo(profile_text(read_text(file), file, program), nl=False)


def plan(
    profile: ProfilePath,
    *,
    registry: Registries = None,
    as_json: Json = False,
    weigh: Annotated[
        bool,
        typer.Option(
            "--bytes/--no-bytes",
            help="Read the manifests of changed images to count their bytes. On a metered upstream, such as "
            "Docker Hub, each of them counts as a pull; --no-bytes sends HEAD requests only.",
        ),
    ] = True,
    lock: Annotated[
        Path | None,
        typer.Option(
            "--lock",
            metavar="FILE",
            help="Show as well what has changed since this lock was written. Default: `mirrorflow.lock` "
            "beside the profile, if it is there.",
        ),
    ] = None,
    markdown: Annotated[
        PlanFormat, typer.Option("--format", help="`markdown`: tables for a pull request.")
    ] = PlanFormat.TEXT,
) -> None:
    """Show what a sync would add, move and skip, and what it would cost. Changes nothing.

    With a lock, show what has changed upstream since it was written.

    Exit code 0: nothing to do; 2: there are changes; 1: something could not be checked.
    """
    from flows.cli.check import stored_violations
    from flows.cli.plan import plan_entries, where_images_are
    from flows.cli.releasing.locks import compared, found_lock, lock_lines, render_markdown
    from flows.entries import selected_entries
    from flows.reporting.report_tables import render_plans

    loaded = load_to_ask(profile)
    locked = found_lock(loaded, lock)
    entries = selected_entries(loaded.profile, registry)
    if not as_json:
        say(
            f"comparing {', '.join(entry.name for entry in entries)} "
            f"with {where_images_are(loaded.profile, entries)}"
        )
    plans = plan_entries(loaded.profile, entries, weigh=weigh)
    differences = compared(plans, locked)
    if as_json:
        print_json_list(each.to_json() | differences.to_json(each.registry) for each in plans)
    elif markdown is PlanFormat.MARKDOWN:
        typer.echo("\n".join(render_markdown(plans, differences)))
    else:
        for line in render_plans(plans):
            out.print(line)
        for text in (*lock_lines(differences), *stored_violations(loaded.profile)):
            out.print(text, markup=False)
    raise typer.Exit(_exit_code(plans, changed=bool(differences)))


def _exit_code(plans: list[Plan], *, changed: bool) -> int:
    if any(each.problems for each in plans):
        return 1
    return 2 if any(plans) or changed else 0


def explain(
    profile: ProfilePath,
    image: Annotated[
        str, typer.Argument(metavar="REPO[:TAG]", help="By its upstream name or by its name here.")
    ],
) -> None:
    """Show which rule takes an image or drops it, and whether the image is held back. Makes no requests.

    Exit code 0: a rule takes it; 2: none does.
    """
    from flows.cli.explain import explain_image, explain_min_age
    from flows.entries import open_store_if_present

    loaded = load(profile)
    explanations = explain_image(loaded.profile, image)
    for each in explanations:
        out.print(each.words, markup=False)
    store = open_store_if_present(loaded.profile)
    for line in explain_min_age(loaded.profile, image, store, time.time()) if store else ():
        out.print(line, markup=False)
    if not any(each.takes for each in explanations):
        raise typer.Exit(2)


def verify(
    profile: ProfilePath,
    image: Annotated[
        str,
        typer.Argument(metavar="REF", help="REPO:TAG or REPO@DIGEST, by its upstream name or its name here."),
    ],
    as_json: Json = False,
) -> None:
    """Judge one image by the profile's policy: list every signature found, and why it counts or not.

    Asks the upstream; changes nothing. Exit code 0: admitted; 2: refused; 1: the upstream failed.
    """
    from flows.cli.verify import render_verdict, verify_image

    found = verify_image(load_to_ask(profile).profile, image)
    if as_json:
        print_json(found.to_json())
    else:
        for line in render_verdict(found):
            out.print(line, markup=False)
    if not found.admits:
        raise typer.Exit(2)
