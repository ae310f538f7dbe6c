"""What a zot configuration file may hold beside mirroring.

Such a file loads unchanged: what mirrorflow does not use is accepted with a warning that names it. Only where
ignoring a key would be wrong (access that was to be restricted, content that was to go elsewhere) the load
is refused.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A key of zot's without a field here; `refused` says which of the two ways it goes.

    `instead`: the key of the same section that a refused one is to be replaced by.
    """

    found: str
    write: str
    refused: bool = False
    instead: str = ""


def _unused(why: str = "mirrorflow does not use it") -> ForeignKey:
    return ForeignKey(why, "it is ignored")


def _not_yet(what: str) -> ForeignKey:
    return ForeignKey(f"{what}: mirrorflow does not use it yet", "it is ignored")


def _refused(what: str, write: str, instead: str = "") -> ForeignKey:
    found = f"{what} is not supported yet, and to ignore it would be wrong"
    return ForeignKey(found, write, refused=True, instead=instead)


def _sign_in(what: str) -> ForeignKey:
    return _refused(what, "drop it, and give users passwords with http.auth.htpasswd", "htpasswd")


def _token(what: str) -> ForeignKey:
    write = "drop it: tokens are issued here, to the users of http.auth.htpasswd"
    return _refused(what, write, "htpasswd")


_CREDENTIALS = ForeignKey(
    "credentials do not belong in the profile",
    "drop it, and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, GOOGLE_APPLICATION_CREDENTIALS or "
    "AZURE_STORAGE_ACCOUNT_KEY in the environment, or give the machine a role",
    refused=True,
)

# By the section of the file in which the key stands; keys as `key_names.fold_key` makes them.
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
        "fastrestart": _unused("the store is not read when the server starts"),
        "cachedriver": _unused("the files of the store are its only index"),
        "remotecache": _unused("the files of the store are its only index"),
        "gctimewindow": _not_yet("garbage collection at certain hours only"),
        "gcmaxschedulerdelay": _unused(),
        "maxrepos": _not_yet("a limit to the number of repositories"),
    },
    "storage.storageDriver": {
        **dict.fromkeys(("accesskey", "secretkey", "accountkey", "keyfile", "credentials"), _CREDENTIALS),
        "container": _refused("another name for it", "write bucket", "bucket"),
        "encrypt": _not_yet("asking for encryption with each request"),
        "keyid": _not_yet("asking for encryption with each request"),
        "storageclass": _not_yet("another storage class"),
        "v4auth": _unused("requests are always signed so"),
        "chunksize": _unused("parts have 8 MiB, or more for a blob that would have too many"),
        "multipartcopychunksize": _unused(),
        "multipartcopymaxconcurrency": _unused(),
        "multipartcopythresholdsize": _unused(),
        "useragent": _unused(),
        "loglevel": _unused(),
        "usedualstack": _unused(),
        "accelerate": _unused(),
        "objectacl": _unused(),
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
        "keyfile": ForeignKey("the key has moved", "write http.auth.tokenKeyFile", refused=True),
        "ldap": _sign_in("signing in by LDAP"),
        "openid": _sign_in("signing in by OpenID"),
        "apikey": _unused("there are no API keys"),
        "sessionkeysfile": _unused("there are no sessions of browsers"),
        "sessiondriver": _unused("there are no sessions of browsers"),
        "sessionhashkey": _unused("there are no sessions of browsers"),
        "sessionencryptkey": _unused("there are no sessions of browsers"),
        "securesession": _unused("there are no sessions of browsers"),
        "cert": _token("tokens of another server"),
        "skipissuerverification": _refused(
            "tokens of any issuer", "drop it, and write issuer as the tokens have it", "issuer"
        ),
        "awssecretsmanager": _token("keys for tokens in AWS Secrets Manager"),
        "upstreamtokenendpoint": _token("another server's token endpoint"),
    },
    "http.accessControl": {  # and what is in it
        "conditions": _refused("a condition (CEL) of a policy", "drop the policy, or grant it without"),
    },
    "log": {
        "output": _unused("logs go to standard error"),
    },
    "extensions": {
        "search": _unused(),
        "ui": _unused("the page at / is always there; `ui.enable: false` turns it off"),
        "metrics": _unused("the server always has /metrics"),
        "scrub": _unused(
            "the command `mirrorflow store scrub` reads and hashes the whole store, e.g. by cron"
        ),
        "lint": _not_yet("mandatory annotations"),
        "mgmt": _unused(),
        "userprefs": _unused(),
        "apikey": _unused(),
        "imagetrust": _unused("whose signatures count is said in `trust` and `verify` (docs/trust.md)"),
        "trust": _unused("whose signatures count is said in `trust` and `verify` (docs/trust.md)"),
        "events": _not_yet("sending events"),
    },
}
# `storageDriver: {name: local}` says what is the case anyway.
LOCAL_DRIVERS = ("local", "")
FOREIGN["storage.subPaths"] = FOREIGN["storage"] | {
    "storagedriver": _refused(
        "another storage driver than local files for a subpath",
        "drop it; rootDirectory says where the files are",
        "rootDirectory",
    ),
    "redirectbloburl": _unused("blobs of a subpath are served from its files"),
}
