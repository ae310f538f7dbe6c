"""The content rules that would take what is missing, and `--write`, which adds them."""

from __future__ import annotations

import shutil

from profiles.additions import write_rules
from tests.cover.worlds import BOTH, World
from tests.support.command_line import mirrorflow


def test_write_adds_what_is_missing_and_the_next_run_covers_it(world: World) -> None:
    images = [world.image(name) for name in ("shop/web:v2.0.0", "shop/web:v1.0.0", "shop/tool:v1.0.0")]
    (world.folder / "images").write_text("\n".join(images))
    options = ("--images", world.folder / "images", "--platform", BOTH[0], "--platform", BOTH[1])
    first = world.command(*options, "--write")
    assert (first["exit"], first["covered"], len(first["suggestions"])) == (2, False, 1)
    assert world.profile.read_text().startswith("# a profile\n")
    assert mirrorflow("sync", world.profile).returncode == 0
    second = world.command(*options)
    assert (second["exit"], second["covered"], second["suggestions"]) == (0, True, [])


def test_a_registry_that_is_new_gets_an_entry_of_its_own(world: World) -> None:
    images = ["nginx:1.27", "quay.io/team/app:1", "localhost:5000/a:1"]
    suggestions = world.cover(*images).suggestions
    assert {each.entry: (each.keys["urls"], [*each.rules]) for each in suggestions} == {
        "docker.io": (["https://docker.io"], [{"images": ["library/nginx:1.27"]}]),
        "localhost-5000": (
            ["http://localhost:5000"],
            [{"images": ["a:1"], "destination": "/localhost-5000"}],
        ),
        "quay.io": (["https://quay.io"], [{"images": ["team/app:1"], "destination": "/quay.io"}]),
    }
    write_rules(world.profile, suggestions)
    again = world.cover(*images)
    assert {str(each.state) for each in again.coverages} == {"not here"}, "rules take them, and no run has"


def test_what_was_added_is_not_suggested_again(world: World) -> None:
    """Before the next run, too: a platform is still missing then."""
    images = [world.image(name) for name in ("shop/web:v2.0.0", "shop/web:v1.0.0", "shop/tool:v1.0.0")]
    first = world.cover(*images, platforms=BOTH)
    assert len(first.suggestions) == 1
    write_rules(world.profile, first.suggestions)
    second = world.cover(*images, platforms=BOTH)
    assert not second.is_covered
    assert second.suggestions == []


def test_an_entry_beside_one_that_is_only_on_demand_is_not_suggested_again(world: World) -> None:
    world.write("", entry="name: up, urls: ['{url}'], onDemand: true")
    shutil.rmtree(world.folder / "store")
    write_rules(world.profile, world.cover(world.image("shop/web:v1.0.0")).suggestions)
    assert world.cover(world.image("shop/web:v1.0.0")).suggestions == []


def test_no_suggestion_is_made_for_what_a_run_would_bring(world: World) -> None:
    shutil.rmtree(world.folder / "store")
    assert world.cover(world.image("shop/web:v1.0.0")).suggestions == []


def test_a_profile_that_cannot_be_added_to_is_left_alone(world: World) -> None:
    toml = world.folder / "profile.toml"
    toml.write_text('[storage]\nrootDirectory = "store"\n')
    (world.folder / "images").write_text("nginx:1")
    done = mirrorflow("cover", toml, "--images", world.folder / "images", "--write")
    assert done.returncode == 1
    assert "TOML cannot be added to" in done.stderr
    assert "library/nginx:1" in done.stdout, "what to add is printed all the same"
