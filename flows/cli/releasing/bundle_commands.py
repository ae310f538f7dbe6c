"""`mirrorflow bundle …`: what a store holds, carried to another one over an air gap."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.profile_argument import ProfileFirst
from flows.cli.profile_commands import Json, ProfilePath, load
from flows.cli.usage import PlainTyper
from flows.reporting.console import complain, out, print_json, say

if TYPE_CHECKING:
    from registry_server.bundles.state import AppliedBundle

bundle_app = PlainTyper(
    name="bundle",
    help="Carry images over an air gap: signed bundles of what the other side lacks, and receipts.",
    no_args_is_help=True,
)

Key = Annotated[
    str,
    typer.Option(
        "--key",
        metavar="KEY",
        help="Sign with this private key (PEM); a password is read from MIRRORFLOW_ATTEST_PASSWORD or "
        "COSIGN_PASSWORD. Or `keyless`: with the identity of the CI job or of the OIDC token in "
        "SIGSTORE_ID_TOKEN, which needs Fulcio and a transparency log.",
    ),
]
Sigstore = Annotated[
    Path | None,
    typer.Option(
        "--sigstore",
        metavar="FILE",
        help="With `--key keyless`: the ClientTrustConfig (JSON) of a private Sigstore. Default: the public "
        "one.",
    ),
]
BundlePath = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the bundle.")]


def register(app: typer.Typer) -> None:
    bundle_app.command()(inventory)
    bundle_app.command(cls=ProfileFirst)(create)
    bundle_app.command(cls=ProfileFirst)(verify)
    bundle_app.command(cls=ProfileFirst)(apply)
    bundle_app.command()(receipt)
    app.add_typer(bundle_app)


def inventory(
    profile: ProfilePath,
    key: Key,
    to: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where it is written.")] = Path(
        "inventory.json"
    ),
    sigstore: Sigstore = None,
) -> None:
    """Write a signed list of what the store holds, for the side that creates bundles for it.

    The list has tags and digests, and no content. The store remembers that it was given out.
    """
    from flows.cli.audit import signer_for
    from flows.cli.releasing.bundles import write_inventory
    from flows.entries import open_store

    store = open_store(load(profile).profile)
    found = write_inventory(store, signer_for(key, sigstore), to)
    say(f"{to}: {found.summary}")


def create(
    profile: ProfilePath,
    repositories: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="REPO...",
            help="Repositories, as here; `*` and `**` as in `prefix`. Default: everything that is served.",
        ),
    ] = None,
    *,
    key: Key,
    to: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="DIR", help="A new folder, or one where a create stopped."),
    ],
    inventory: Annotated[
        Path | None,
        typer.Option(
            "--for",
            metavar="FILE",
            help="The other side's inventory, or its receipt for the last bundle: only what it lacks goes "
            "into the bundle. Without it, the bundle holds everything.",
        ),
    ] = None,
    split: Annotated[
        str, typer.Option("--split", metavar="SIZE", help="The size of a part, e.g. `700MB`; 0: one file.")
    ] = "4GiB",
    again: Annotated[
        bool,
        typer.Option(
            "--refused", help="Also what the receipt says was refused, although nothing of it has changed."
        ),
    ] = False,
    sigstore: Sigstore = None,
) -> None:
    """Make a bundle of what the store serves: an OCI image layout in parts, and a signed manifest of it.

    Interrupted, the same command goes on with the part that it was at.

    `sha256sum -c SHA256SUMS` in DIR checks the copies of the files.

    Exit code 0: it is made, or there was nothing to carry, and then there is no DIR; 1: an error.
    """
    from flows.cli.audit import signer_for
    from flows.cli.releasing.bundles import BundleOrder, create_bundle
    from flows.entries import open_store

    loaded = load(profile)
    order = BundleOrder(to, loaded.sha256, tuple(repositories or ()), _part_size(split), inventory, again)
    signer = signer_for(key, sigstore)
    for line in create_bundle(loaded.profile, open_store(loaded.profile, create=False), signer, order):
        say(line)


def verify(profile: ProfilePath, folder: BundlePath) -> None:
    """Check a bundle: who signed it, every part, every digest. Needs no store, and changes nothing.

    Exit code 0: it is unchanged, and signed by a trusted key or identity; 1: it is not.
    """
    from flows.cli.releasing.bundles import verify_bundle

    for line in verify_bundle(load(profile).profile, folder):
        say(line)


def apply(
    profile: ProfilePath,
    folder: BundlePath,
    older: Annotated[
        bool,
        typer.Option("--older", help="Apply a bundle that is older than the last one: tags go back."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Bring the images of a bundle into the store: what the profile's rules and policies let in.

    All of the bundle is verified first. A tag appears when everything that its image needs is here.
    Interrupted, the same command goes on. Makes no requests.

    Exit code 0: all of it is here; 2: an image was refused; 1: nothing was applied, or not all.
    """
    from flows.cli.releasing.bundles import apply_in_store
    from flows.entries import open_store

    loaded = load(profile).profile
    applied = apply_in_store(loaded, open_store(loaded), folder, older=older, told=_quiet if as_json else say)
    if as_json:
        print_json(applied.to_json())
    else:
        _print_applied(applied)
    if applied.refused:
        raise typer.Exit(2)


def receipt(
    profile: ProfilePath,
    key: Key,
    to: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where it is written.")] = Path(
        "receipt.json"
    ),
    sigstore: Sigstore = None,
) -> None:
    """Write a signed list of what became of the last bundle, and of what the store holds now.

    The side that creates bundles takes it as the inventory: `bundle create --for receipt.json`.
    """
    from flows.cli.audit import signer_for
    from flows.cli.releasing.bundles import write_receipt
    from flows.entries import open_store

    store = open_store(load(profile).profile, create=False)
    found = write_receipt(store, signer_for(key, sigstore), to)
    say(f"{to}: {found.summary}")


def _part_size(split: str) -> int:
    from profiles.errors import Refusal
    from profiles.model.cache import parse_size
    from registry_server.bundles.create import SMALLEST_SPLIT

    if split == "0":
        return 0
    try:
        size = parse_size(split)
    except Refusal as error:
        raise typer.BadParameter(f"--split: {error.found}; {error.write}") from error
    if size < SMALLEST_SPLIT:
        raise typer.BadParameter(f"--split: a part has at least {SMALLEST_SPLIT} bytes; write e.g. 700MB")
    return size


def _quiet(_line: str) -> None:
    """`--json` alone goes to the terminal."""


def _print_applied(applied: AppliedBundle) -> None:
    from flows.cli.releasing.bundles import together

    for image, digest in applied.applied.items():
        out.print(f"{image}@{digest}", markup=False)
    for images, reason in together((each.image, each.reason) for each in applied.refused):
        complain(f"{images}: refused: {reason}")
