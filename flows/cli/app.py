"""`mirrorflow`: the commands, and the one border where errors become a line and an exit code.

Heavy imports (Prefect, httpx, pydantic) are inside the commands: `--help` must not wait for them.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Annotated

import typer

from flows.cli import (
    client_commands,
    cover_commands,
    mirror_commands,
    profile_commands,
    service_commands,
    status_commands,
    store_commands,
)
from flows.cli.releasing import bundle_commands, release_commands
from flows.cli.usage import PlainTyper
from flows.reporting.console import complain, err
from registry_server.oci.errors import MirrorflowError

app = PlainTyper(
    name="mirrorflow",
    help="A declarative mirror of OCI registries.\n\n"
    "A profile says which repositories and tags of which upstream registries to keep. Begin with "
    "`mirrorflow demo`, or copy the commented starter: `mirrorflow starter > profile.yaml`, then "
    "`check` it, `plan` it, and leave `mirrorflow up profile.yaml` running.\n\n"
    "Exit codes: 0 all is well, 1 something failed, 2 there is something to do, or "
    "something is refused (plan, status, audit, cover, explain, verify, bundle apply, promote --dry-run).",
    no_args_is_help=True,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    # Help is drawn where a person looks: in a pipe, importing what draws it is half of what `--help` takes.
    rich_markup_mode="markdown" if sys.stdout.isatty() else None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_DEBUG = "--debug"
_INTERRUPTED = 130
_A_BUG = f"(this is a bug in mirrorflow; {_DEBUG} shows where)"
_OF_THE_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO})


@app.callback()
def _options(
    debug: Annotated[  # noqa: ARG001 - `main` takes it out wherever it stands; this is its line in --help
        bool, typer.Option(_DEBUG, help="Show the traceback of an error.")
    ] = False,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        from importlib import metadata

        typer.echo(f"mirrorflow {metadata.version('mirrorflow')}")
        raise typer.Exit


_GROUPS = (
    profile_commands,
    mirror_commands,
    service_commands,
    status_commands,
    store_commands,
    release_commands,
    bundle_commands,
    client_commands,
    cover_commands,
)
for group in _GROUPS:
    group.register(app)


def main() -> None:
    """The entry point of the distribution."""
    debug = _DEBUG in sys.argv
    sys.argv = [sys.argv[0], *(argument for argument in sys.argv[1:] if argument != _DEBUG)]
    try:
        app()
    except MirrorflowError as error:
        if debug:
            err.print_exception()
        complain(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        complain("interrupted")
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:  # `mirrorflow plan ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 - the last border: a bug is one line too, unless asked for more
        if debug:
            err.print_exception()
        complain(_of_the_disk(error) or f"{type(error).__name__}: {error} {_A_BUG}")
        sys.exit(1)


def _of_the_disk(error: Exception) -> str:
    """What a full, read-only or forbidden disk says, wherever that was met; "" for any other error."""
    if not isinstance(error, OSError) or error.errno not in _OF_THE_DISK:
        return ""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{os.strerror(error.errno)}; free some space or make it writable, then try again"
