"""A mirror, an upstream that can be made to fail, and receivers that write down what they were told."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flows.direct_run import run_direct
from flows.entries import open_store
from flows.reporting.notify.notifier import Notifier, tell
from profiles.loader import load_profile
from tests.support_misbehaving import Misbehaving, answers

if TYPE_CHECKING:
    from pathlib import Path

    from flows.reporting.notify.told import Message

SECRET = "0123456789abcdef0123"


@dataclass
class Telling:
    """`notify` is the section of the profile; `say` has what `tell` complained of."""

    folder: Path
    upstream: Misbehaving
    hook: Misbehaving
    notify: list[dict[str, Any]] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)
    say: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.hook.on("/hook", answers(204))
        self.upstream.add_image("app", "1")

    def receiver(self, **keys: Any) -> dict[str, Any]:
        return {"name": "ops", "url": f"http://{self.hook.host}/hook", **keys}

    @property
    def path(self) -> Path:
        rules = [{"prefix": name} for name in sorted(self.upstream.repositories)]
        entry = {"name": "up", "urls": [f"http://{self.upstream.host}"], "content": rules}
        entry |= self.more.get("entry", {})
        document = {
            "storage": {"rootDirectory": "store"},
            "sync": {"registries": [entry]},
            "notify": self.notify or [self.receiver()],
            **{key: value for key, value in self.more.items() if key != "entry"},
        }
        path = self.folder / "profile.json"
        path.write_text(json.dumps(document))
        return path

    def notifier(self, **environment: str) -> Notifier:
        profile = load_profile(self.path).profile
        return Notifier(profile, open_store(profile), environment)

    def run_only(self) -> None:
        run_direct(self.path, "up")

    def run(self) -> list[dict[str, Any]]:
        """A run, and what the receivers were told after it."""
        self.run_only()
        return self.told()

    def told(self) -> list[dict[str, Any]]:
        """What the receivers are told now: the bodies."""
        tell(self.notifier(), say=self.say.append, pauses=(0.0, 0.01, 0.01), patience=0.0)
        bodies = [json.loads(each.body) for each in self.hook.seen]
        self.hook.seen.clear()
        return bodies

    def pending(self) -> dict[str, Message]:
        return self.notifier().preview()


def changes(bodies: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Event, phase and subject of each line that was told."""
    return [
        (each["event"], each["phase"], each["image"] or each["registry"])
        for body in bodies
        for each in body["data"]["changes"]
    ]
