"""regsync's configuration (regclient, cmd/regsync/config.go and config/host.go) as a profile."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from profiles.imports.draft import Draft, Entry, Part
from profiles.imports.image_reference import (
    ImageReference,
    add_range,
    destination_keys,
    has_login,
    login_note,
    without_login,
)
from profiles.values.durations import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from profiles.imports.section import Section

_TEMPLATE: Final = "{{"
_DEFAULT_TYPES: Final = {
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
}
# Keys of `defaults` that are about regsync itself.
_GENERAL: Final = {
    "parallel": "how much is copied at once is `reqConcurrent` of a registry entry",
    "blobLimit": "blobs may have any size",
    "cacheCount": "there is no cache of manifests in memory",
    "cacheTime": "there is no cache of manifests in memory",
    "skipDockerConfig": "docker's logins are looked at where credentialsFile has none",
    "userAgent": "requests are marked as mirrorflow's",
}
# Keys of `sync` and `defaults` that have no counterpart.
_UNSAID: Final = {
    "backup": "a tag that moves leaves no second tag behind; `storage.retention` says how long images stay",
    "ratelimit": "mirrorflow waits for Docker Hub's pull limit by itself",
    "referrerSource": "referrers are looked for in the image's own repository",
    "referrerTarget": "referrers stay in the image's own repository",
    "referrerSlow": "referrers under a fallback tag are always looked for",
    "forceRecursive": "`mirrorflow store scrub` finds what is missing of an image",
    "includeExternal": "layers that a manifest keeps elsewhere are not copied",
    "hooks": "no program is run; the report of a run is JSON in the store",
}
_HOST_KEYS: Final = {
    "credExpire": "a credential helper is asked when a login is needed",
    "credHost": "a credential helper is asked for the registry's own host",
    "repoAuth": "there is a token for each repository anyway",
    "priority": "`urls` are tried in their order",
    "api": "only the distribution API is used",
    "apiOpts": "only the distribution API is used",
    "blobChunk": "nothing is pushed",
    "blobMax": "nothing is pushed",
}

_KNOWN: Final = (
    "interval", "schedule", "digestTags", "referrers", "referrerFilters", "fastCheck", "mediaTypes", *_UNSAID,
)  # fmt: skip
_KNOWN_OF_HOST: Final = (
    "registry", "tls", "scheme", "regcert", "clientCert", "clientKey", "hostname", "user", "pass", "token",
    "credHelper", "pathPrefix", "mirrors", "reqPerSec", "reqConcurrent", *_HOST_KEYS,
)  # fmt: skip


def convert(root: Section) -> Draft:
    """Raises `ProfileInvalid` for values of the wrong kind."""
    draft = Draft(
        notes=["From a configuration of regsync. The mirror's own address takes the place of its targets."]
    )
    root.text("version")
    defaults = root.section("defaults")
    hosts = {without_login(host.text("registry")): host for host in root.sections("creds")}
    _note_unsupported(draft, defaults, _GENERAL | _UNSAID)
    entries: dict[tuple[str, str], Entry] = {}
    for sync in root.sections("sync"):
        _sync(draft, sync, defaults, hosts, entries)
    for section, known in ((defaults, _KNOWN), *((host, _KNOWN_OF_HOST) for host in hosts.values())):
        for key in known:
            section.has(key)
        _unknown(draft, [section])
    _unknown(draft, [root])
    return draft


def _sync(
    draft: Draft,
    sync: Section,
    defaults: Section,
    hosts: dict[str, Section],
    entries: dict[tuple[str, str], Entry],
) -> None:
    kind, source = sync.text("type"), sync.text("source")
    found = None if _TEMPLATE in source else ImageReference.parse(source, is_registry=kind == "registry")
    target = _target(sync, kind)
    if found is None or target is None or kind not in ("registry", "repository", "image"):
        draft.entries.append(Entry(notes=[f"{sync.path}: {_why_not(source, sync.text('target'), kind)}"]))
        return
    when = _schedule(sync, defaults)
    key = (found.registry, json.dumps(when))
    if key not in entries:
        entries[key] = _entry(draft, found.registry, when, hosts)
        draft.entries.append(entries[key])
    if has_login(source):
        _login(draft, entries[key], found.registry)
    for rule in _rules(entries[key], kind, found, target, sync):
        _options(rule, sync, defaults)
        entries[key].rules.append(rule)
    _legacy_tags(entries[key], sync, defaults)
    _unknown(entries[key], [sync])


def _target(sync: Section, kind: str) -> ImageReference | None:
    text = sync.text("target")
    return None if _TEMPLATE in text else ImageReference.parse(text, is_registry=kind == "registry")


def _why_not(source: str, target: str, kind: str) -> str:
    if _TEMPLATE in source or _TEMPLATE in target:
        return "left out: source or target is a template, which only regsync can evaluate."
    if "://" in source or "://" in target:
        return "left out: source or target is a folder; mirrorflow copies from registries into its store."
    if kind not in ("registry", "repository", "image"):
        return "left out: its type is none of registry, repository and image."
    return "left out: source or target is no image of a registry."


def _schedule(sync: Section, defaults: Section) -> dict[str, str]:
    """regsync: `schedule` or `interval` of the step, else those of the defaults, `schedule` first."""
    own = (sync.text("schedule"), sync.duration("interval"))
    theirs = (defaults.text("schedule"), defaults.duration("interval"))
    schedule, interval = own if any(own) else theirs
    if schedule:
        return {"schedule": schedule}
    return {"pollInterval": format_duration(interval)} if interval else {}


def _entry(draft: Draft, registry: str, when: dict[str, str], hosts: dict[str, Section]) -> Entry:
    entry = Entry(keys={"urls": []})
    host = hosts.get(registry)
    mirrors = host.texts("mirrors") if host else []
    for name in [*mirrors, registry]:
        bare, known = without_login(name), hosts.get(without_login(name))
        entry.keys["urls"].append(_url(bare, known))
        if "@" in name or (known is not None and "@" in known.text("registry") + known.text("hostname")):
            _login(draft, entry, bare)
        if known is not None:
            _host(draft, entry, known)
    entry.keys |= when
    if not when:
        entry.note(
            "No interval: only `mirrorflow sync` mirrors it, as `regsync once` does. E.g. pollInterval: 6h"
        )
    return entry


def _login(draft: Draft, entry: Entry, host: str) -> None:
    draft.logins.append(host)
    entry.note(login_note(host))


def _url(name: str, host: Section | None) -> str:
    plain = host is not None and (host.text("tls") == "disabled" or host.text("scheme") == "http")
    address = without_login(host.text("hostname") if host else "") or name
    prefix = host.text("pathPrefix") if host else ""
    return f"http{'' if plain else 's'}://{address}" + (f"/{prefix.strip('/')}" if prefix else "")


def _host(draft: Draft, entry: Entry, host: Section) -> None:
    name = without_login(host.text("registry"))
    if host.text("tls") == "insecure":
        entry.keys["tlsVerify"] = False
    for key in ("reqPerSec", "reqConcurrent"):
        if number := host.number(key):
            entry.keys[key] = number
    if host.text("user") or host.text("pass") or host.text("token"):
        draft.logins.append(name)
    if helper := host.text("credHelper").split():
        entry.note(
            f"Credential helper: name it under credHelpers of ~/.docker/config.json: {name}: {helper[0]}"
            + (" (its arguments are left out)" if helper[1:] else "")
        )
    if any([host.text("regcert"), host.text("clientCert"), host.text("clientKey")]):
        entry.note(
            f"regsync has certificates for {name}: write certDir: FOLDER, and put ca.crt, client.cert and "
            "client.key there."
        )
    _note_unsupported(entry, host, _HOST_KEYS)


def _rules(
    entry: Entry, kind: str, source: ImageReference, target: ImageReference, sync: Section
) -> Iterator[Part]:
    tags = sync.section("tags")
    sets = [each for each in (tags, *sync.sections("tagSets")) if each.keys] or [tags]
    if kind == "registry":
        yield from _of_registry(entry, target, sync, sets)
    elif kind == "image":
        yield _of_image(source, target)
    else:
        for each in sets:
            rule = Part(destination_keys(source.repository, target.repository))
            _tags(rule, each)
            yield rule


def _of_image(source: ImageReference, target: ImageReference) -> Part:
    rule = Part(destination_keys(source.repository, target.repository))
    name = source.reference or "latest"
    rule.keys["images"] = [f"{source.repository}{'@' if ':' in name else ':'}{name}"]
    if target.reference not in ("", name) and ":" not in name:
        del rule.keys["images"]
        rename = {"regex": re.escape(name), "to": target.reference}
        rule.keys["tags"] = {"regex": re.escape(name), "rename": rename}
    elif target.reference not in ("", name):
        rule.note(
            f"regsync gives it the tag {target.reference!r}: an image that is listed by digest has none."
        )
    return rule


def _of_registry(entry: Entry, target: ImageReference, sync: Section, sets: list[Section]) -> Iterator[Part]:
    repos = sync.section("repos")
    for text in repos.texts("allow") or [".*"]:
        glob = _glob(text)
        if glob is None:
            entry.note(
                f"{sync.path}.repos.allow: {text!r} is left out: no pattern here says it; add a rule with "
                "`prefix`."
            )
            continue
        for each in sets:
            rule = Part({"prefix": glob, "destination": target.repository and f"/{target.repository}"})
            if denied := repos.texts("deny"):
                names = ", ".join(denied)
                rule.note(f"Takes more than regsync, which leaves out {names}: no pattern here does that.")
            _tags(rule, each)
            yield rule
    _unknown(entry, [repos])


def _glob(text: str) -> str | None:
    """A pattern of repositories for the regular expressions that people write for them; else None."""
    glob = text.removeprefix("^").removesuffix("$")
    glob = re.sub(r"/\.[*+]$", "/**", glob)
    glob = "**" if glob in (".*", ".+") else glob
    glob = re.sub(r"\[\^/\][*+]", "*", glob).replace(r"\.", "\0")
    if re.search(r"[.+?()\[\]|\\^$]", glob.replace("\0", "")) or re.search(r"[^/*]\*\*|\*\*[^/]", glob):
        return None
    return glob.replace("\0", ".")


def _tags(rule: Part, section: Section) -> None:
    """One set: versions, then what `allow` takes, then without what `deny` takes; whole tags each."""
    for key, name in (("allow", "regex"), ("deny", "excludeRegex")):
        if texts := section.texts(key):
            joined = texts[0] if len(texts) == 1 else "|".join(f"(?:{text})" for text in texts)
            rule.keys.setdefault("tags", {})[name] = joined
    if ranges := section.texts("semverRange"):
        add_range(rule, ranges)
    _unknown(rule, [section])


def _options(rule: Part, sync: Section, defaults: Section) -> None:
    def flag(key: str) -> bool:
        own, theirs = sync.flag(key), defaults.flag(key)
        return bool(theirs if own is None else own)

    wanted = [each for each in sync.texts("platforms") if each]
    if single := sync.text("platform"):
        wanted = [single]
        rule.note("regsync stores the manifest of this platform under the tag; here the tag keeps the index.")
    rule.keys["platforms"] = [each for each in wanted if each != "local"]
    if "local" in wanted:
        rule.note("The platform `local` is regsync's own machine: write it, e.g. linux/amd64.")
    if flag("referrers"):
        _filters(rule, list(sync.sections("referrerFilters")) or list(defaults.sections("referrerFilters")))
    else:
        rule.keys["referrers"] = {"follow": False}
    flag("fastCheck")  # an unchanged tag costs one HEAD here anyway
    _types(rule, sync.texts("mediaTypes") or defaults.texts("mediaTypes"))
    _note_unsupported(rule, sync, _UNSAID)


def _filters(rule: Part, filters: list[Section]) -> None:
    """Several filters are alternatives; here types are, and annotations have to be there all."""
    types = [each.text("artifactType") for each in filters]
    annotations = [
        {key: each.section("annotations").text(key) or "*" for key in each.section("annotations").keys}
        for each in filters
    ]
    if len(filters) > 1 and any(annotations):
        rule.note(
            "regsync has several referrerFilters with annotations: only one can be said, so all referrers "
            "follow."
        )
        return
    found: dict[str, Any] = {}
    if filters and all(types):
        found["artifactTypes"] = types
    if filters and annotations[0]:
        found["annotations"] = annotations[0]
    rule.keys["referrers"] = found


def _types(rule: Part, types: list[str]) -> None:
    if types and not set(types) >= _DEFAULT_TYPES:
        rule.keys["select"] = f"contains(`{json.dumps(types)}`, mediaType)"
        rule.note("`select` costs a GET of each manifest, as regsync's mediaTypes do.")


def _legacy_tags(entry: Entry, sync: Section, defaults: Section) -> None:
    own = sync.flag("digestTags")
    wanted = defaults.flag("digestTags") if own is None else own
    if wanted:
        entry.keys["syncLegacyCosignTags"] = True
    else:
        entry.keys.setdefault("syncLegacyCosignTags", False)


def _note_unsupported(part: Part, section: Section, keys: dict[str, str]) -> None:
    """A comment for each of these keys that is there. Its value is not repeated: it may hold a secret."""
    for key, why in keys.items():
        if section.has(key):
            part.note(f"{section.path}.{key} is left out: {why}.")


def _unknown(part: Part, sections: list[Section]) -> None:
    for section in sections:
        for key in section.rest:
            part.note(
                f"{section.path + '.' if section.path else ''}{key} is left out: it is no key that is known."
            )
