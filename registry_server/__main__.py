"""`python -m registry_server`: the server alone, without profiles and flows."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from registry_server.http.extension import ExtensionInvalid, ExtensionName
from registry_server.http.push.push_limits import LimitInvalid, PushLimits
from registry_server.http.server_options import ServerOptions, Tls
from registry_server.oci.errors import MirrorflowError
from registry_server.store.errors import StoreError
from registry_server.store.remote_storage import RemoteStorage

_DESCRIPTION = """\
Serve a folder as an OCI registry, for docker, containerd, podman, skopeo, helm and oras.

The folder is a store that mirrorflow filled (or an empty one, which is then set up). Without --writable it
is served for reading: who pushes is told that this is not supported."""

_EPILOG = """\
examples:
  python -m registry_server --root /var/lib/mirrorflow
      then:  skopeo copy --src-tls-verify=false docker://127.0.0.1:5000/library/alpine:3 dir:alpine
  python -m registry_server --root data --address 0.0.0.0 --port 443 --tls-cert cert.pem --tls-key key.pem
  python -m registry_server --root data --subpath /tools=/srv/tools --access-log - | jq .target

It ends on SIGINT (Ctrl-C) or SIGTERM; transfers that run get 5 seconds to finish."""


def main(arguments: list[str] | None = None) -> int:
    """0 after a clean end, 1 with one line on stderr if it cannot serve, 2 for wrong arguments."""
    parser = _parser()
    given = parser.parse_args(arguments)
    options = _options(parser, given)
    # Late, so that --help and wrong arguments cost nothing.
    from registry_server.http.serve import end_with_standard_input, serve

    if given.end_with_stdin:
        end_with_standard_input()
    try:
        options = _with_access(options, given.access)
        serve(options, on_listening=_print_url if given.print_url else None)
    except (MirrorflowError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def _with_access(options: ServerOptions, file: Path | None) -> ServerOptions:
    if file is None:
        return options
    from registry_server.http.auth.access_options import AccessOptions

    return replace(options, access=AccessOptions.read(file))


def _print_url(url: str) -> None:
    sys.stdout.write(f"{url}\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m registry_server",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--root", type=Path, required=True, metavar="DIR", help="the store to serve")
    add(
        "--subpath", type=_subpath, action="append", default=[], metavar="/NAME=DIR",
        help="a root of its own for the repositories whose first segment is NAME; may be given several times",
    )  # fmt: skip
    add("--address", default="127.0.0.1", help="0.0.0.0 is every IPv4 address (default: %(default)s)")
    add("--port", type=int, default=5000, help="0 takes any free one (default: %(default)s)")
    add("--workers", type=_at_least_one, default=1, metavar="N", help="processes (default: %(default)s)")
    add("--tls-cert", type=Path, metavar="PEM", help="certificate chain; the server then speaks https only")
    add("--tls-key", type=Path, metavar="PEM", help="its private key, without a password")
    add("--tls-client-ca", type=Path, metavar="PEM", help="clients must show a certificate signed by this CA")
    add(
        "--access", type=Path, metavar="FILE", help="who may do what: JSON that mirrorflow makes of a profile"
    )
    add(
        "--trusted-proxy", action="append", default=[], metavar="NET",
        help="an address or network whose X-Forwarded-For is believed; may be given several times",
    )  # fmt: skip
    add(
        "--accel-redirect", default="", metavar="LOCATION",
        help="the internal location of an nginx at --trusted-proxy that sends files by their absolute path",
    )  # fmt: skip
    add(
        "--header-timeout",
        type=float,
        default=30.0,
        metavar="S",
        help="for a request's head (default: %(default)s)",
    )
    add("--access-log", type=Path, metavar="FILE", help="append a line of JSON per request; - is stdout")
    add("--audit-log", type=Path, metavar="FILE", help="append a line of JSON per change; - is stdout")
    add("--audit-pulls", action="store_true", help="with --audit-log: and per pull")
    add("--writable", action="store_true", help="let clients push and delete; without it they only read")
    add(
        "--limit", action="append", default=[], metavar="NAME=NUMBER",
        help=f"change a limit of writing; may be given several times: {', '.join(PushLimits.__slots__)}",
    )  # fmt: skip
    add(
        "--on-miss", type=Path, metavar="FILE",
        help="call a webhook for what is not here: JSON with url, secret, timeout (docs/on-demand.md)",
    )  # fmt: skip
    add(
        "--shared-file-system", choices=("auto", "exclusive", "uncached"), default="auto",
        help="of a network file system: no other host uses the store, or nothing is cached (docs/store.md)",
    )  # fmt: skip
    add(
        "--extension", metavar="MODULE:CALLABLE=ARGUMENT",
        help="what answers paths outside of /v2/; mirrorflow gives its page",
    )  # fmt: skip
    add(
        "--object-storage", type=_remote, metavar="JSON",
        help="the bucket that the store is in, with `driver` as in a profile; --root is a local folder then",
    )  # fmt: skip
    add("--print-url", action="store_true", help="print the URL on stdout once clients can connect")
    add("--end-with-stdin", action="store_true", help="end when stdin is closed, for parents that may die")
    return parser


def _options(parser: argparse.ArgumentParser, given: argparse.Namespace) -> ServerOptions:
    if (given.tls_cert is None) != (given.tls_key is None):
        parser.error("--tls-cert and --tls-key belong together")
    if given.tls_client_ca and not given.tls_cert:
        parser.error("--tls-client-ca needs --tls-cert and --tls-key")
    try:
        limits = PushLimits.parse(given.limit)
        extension = ExtensionName.parse(given.extension) if given.extension else None
    except (LimitInvalid, ExtensionInvalid) as error:
        parser.error(str(error))
    tls = Tls(given.tls_cert, given.tls_key, given.tls_client_ca) if given.tls_cert else None
    return ServerOptions(
        root=given.root,
        subpaths=dict(given.subpath),
        address=given.address,
        port=given.port,
        workers=given.workers,
        tls=tls,
        trusted_proxies=tuple(given.trusted_proxy),
        accel_redirect=given.accel_redirect,
        access_log=given.access_log,
        audit_log=given.audit_log,
        audit_pulls=given.audit_pulls,
        header_timeout=given.header_timeout,
        writable=given.writable,
        limits=limits,
        shared_file_system=given.shared_file_system,
        remote=given.object_storage,
        on_miss=given.on_miss,
        extension=extension,
    )


def _subpath(text: str) -> tuple[str, Path]:
    name, separator, folder = text.partition("=")
    if not separator or not name.startswith("/") or not folder:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form /NAME=DIR, e.g. /tools=/srv/tools")
    return name, Path(folder)


def _remote(text: str) -> RemoteStorage:
    try:
        return RemoteStorage.from_json(text)
    except StoreError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
