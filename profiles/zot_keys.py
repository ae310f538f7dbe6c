"""What a zot configuration file may hold beside mirroring.

Such a file loads unchanged: what mirrorflow does not use is accepted with a warning that names it. Only where
ignoring a key would be wrong (access that was to be restricted, content that was to go elsewhere) the load
is refused.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A key of zot's without a field here; `refused` says which of the two ways it goes."""

    found: str
    write: str
    refused: bool = False


def _unused(why: str = "mirrorflow does not use it") -> ForeignKey:
    return ForeignKey(why, "it is ignored")


def _not_yet(what: str) -> ForeignKey:
    return ForeignKey(f"{what}: mirrorflow does not use it yet", "it is ignored")


def _refused(what: str, write: str) -> ForeignKey:
    return ForeignKey(f"{what} is not supported yet, and to ignore it would be wrong", write, refused=True)


_HTPASSWD = "drop it, and give users passwords with http.auth.htpasswd"
_OWN_TOKENS = "drop it: tokens are issued here, to the users of http.auth.htpasswd"

# By the section of the file in which the key stands; keys as `vocabulary.folded` makes them.
FOREIGN: dict[str, dict[str, ForeignKey]] = {
    "": {
        "goversion": _unused(),
        "commit": _unused(),
        "releasetag": _unused(),
        "binarytype": _unused(),
        "scheduler": _unused("Prefect schedules the work here"),
        "cluster": _unused("one registry server serves the whole store here"),
    },
    "storage": {
        "storagedriver": _refused(
            "another storage driver than local files", "drop it; rootDirectory says where the files are"
        ),
        "cachedriver": _unused("the files of the store are its only index"),
        "remotecache": _unused("the files of the store are its only index"),
        "gctimewindow": _not_yet("garbage collection at certain hours only"),
        "gcmaxschedulerdelay": _unused(),
        "maxrepos": _not_yet("a limit to the number of repositories"),
        "redirectbloburl": _unused("blobs are served from the store itself"),
    },
    "storage.subPaths": {},
    "http": {
        "realm": _unused("the realm is always called mirrorflow"),
        "compat": _unused("Docker media types are always taken"),
        "alloworigin": _not_yet("CORS"),
        "ratelimit": _not_yet("a limit to the rate of requests"),
        "readtimeout": _unused(),
        "writetimeout": _unused(),
    },
    "http.auth": {  # and http.auth.bearer
        "ldap": _refused("signing in by LDAP", _HTPASSWD),
        "openid": _refused("signing in by OpenID", _HTPASSWD),
        "mtls": _refused("taking users from client certificates", _HTPASSWD),
        "apikey": _unused("there are no API keys"),
        "sessionkeysfile": _unused("there are no sessions of browsers"),
        "sessiondriver": _unused("there are no sessions of browsers"),
        "sessionhashkey": _unused("there are no sessions of browsers"),
        "sessionencryptkey": _unused("there are no sessions of browsers"),
        "securesession": _unused("there are no sessions of browsers"),
        "realm": _refused("tokens of another server", _OWN_TOKENS),
        "cert": _refused("tokens of another server", _OWN_TOKENS),
    },
    "log": {
        "output": _unused("logs go to standard error"),
        "audit": _not_yet("an audit log"),
    },
    "extensions": {
        "search": _unused(),
        "ui": _unused("the Prefect UI shows what is mirrored"),
        "metrics": _unused("the server always has /metrics"),
        "scrub": _not_yet("scrubbing"),
        "lint": _not_yet("mandatory annotations"),
        "mgmt": _unused(),
        "userprefs": _unused(),
        "apikey": _unused(),
        "imagetrust": _not_yet("keys that were uploaded to zot"),
        "trust": _not_yet("keys that were uploaded to zot"),
        "events": _not_yet("events"),
    },
}
# `storageDriver: {name: local}` says what is the case anyway.
LOCAL_DRIVERS = ("local", "")
FOREIGN["storage.subPaths"] = FOREIGN["storage"]
