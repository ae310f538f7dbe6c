"""What the documents show is true; what needs a mirrored store is in tests/flows/documents/."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
import typer
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from flows.cli.app import app
from flows.cli.reference_docs import render_commands, render_lock_schema, with_commands
from profiles.loader import load_profile
from tests.support.documents import DOCUMENTS, ROOT, Block, all_blocks

if TYPE_CHECKING:
    from pathlib import Path

_LANGUAGES = {"sh", "yaml", "json", "nginx", ""}  # nginx: tests/several_servers runs it


@pytest.mark.parametrize("block", all_blocks("", *_LANGUAGES), ids=lambda block: block.id)
def test_a_block_that_is_not_run_says_why(block: Block) -> None:
    if block.language == "":  # pictures in letters, and the commands of other documents
        assert block.document in {
            "CONTRIBUTING.md",
            "air-gap.md",
            "architecture.md",
            "coming-from-zot.md",
        }
    assert set(block.info) <= {"file", "not-run"}
    assert block.info.get("not-run", "a reason")


def test_no_block_is_in_a_language_that_no_test_knows() -> None:
    text = "\n".join(path.read_text() for path in DOCUMENTS)
    assert set(re.findall(r"^ *```(\w+)", text, re.MULTILINE)) <= _LANGUAGES


@pytest.mark.parametrize("block", all_blocks("yaml"), ids=lambda block: block.id)
def test_the_profiles_in_the_documents_load(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "profile.yaml"
    path.write_text(block.text)
    for name in re.findall(r"file: (\w+\.pub)", block.text):  # the documents make them with openssl
        (tmp_path / name).write_bytes(_public_key())
    assert load_profile(path).profile.sync.registries


def _public_key() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize("block", all_blocks("json"), ids=lambda block: block.id)
def test_the_json_in_the_documents_is_json(block: Block) -> None:
    assert json.loads(block.text)


def test_the_reference_of_the_commands_is_fresh() -> None:
    document = (ROOT / "docs/commands.md").read_text()
    assert document == with_commands(document), "docs/commands.md is stale; make docs writes it anew"


def test_the_schema_of_locks_is_fresh() -> None:
    document = (ROOT / "docs/lock.schema.json").read_text()
    assert document == render_lock_schema(), "docs/lock.schema.json is stale; make docs writes it anew"


def test_a_document_without_marks_is_not_written_to() -> None:
    with pytest.raises(ValueError, match="has no line"):
        with_commands("# Commands\n")


def test_every_command_and_option_is_documented_and_described() -> None:
    root: Any = typer.main.get_command(app)
    made = render_commands()
    for name, command in root.commands.items():
        assert command.help, name
        section = made.partition(f"### `mirrorflow {name}")[2].partition("\n### ")[0]
        for parameter in command.params:
            spellings = [each for each in parameter.opts if each.startswith("--") and each != "--help"]
            for spelling in spellings:
                assert f"`{spelling}" in section, f"{name} {spelling}"
    assert "mirrorflow --debug" not in made


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#]*)(?:#[^)]*)?\)", path.read_text()):
        assert not target or (path.parent / target).exists(), f"{path.name}: {target}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_to_headings_have_one(path: Path) -> None:
    for target, anchor in re.findall(r"\]\(((?!https?://)[^)#]*)#([^)]*)\)", path.read_text()):
        text = (path.parent / target if target else path).read_text()
        headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", each).strip().lower().replace(" ", "-") for each in headings}


def test_the_picture_is_an_svg_that_shows_every_step() -> None:
    picture = ROOT / "docs/way-of-the-data.svg"
    words = " ".join(ET.parse(picture).getroot().itertext())  # noqa: S314 - our own file
    for step in ("list_catalog", "filter_tags", "verify_signature", "convert_manifest", "copy_blob"):
        assert step in words
        assert (ROOT / f"tasks/{step}.py").exists() or (ROOT / "tasks" / step).is_dir()


def test_the_pictures_are_small_and_show_no_path_of_a_machine() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= 200
    for name in re.findall(r"\]\((docs/pictures/[^)]+)\)", readme):
        assert (ROOT / name).stat().st_size < 200_000
    terminal = " ".join(ET.parse(ROOT / "docs/pictures/terminal.svg").getroot().itertext())  # noqa: S314 - ours
    assert "everything that the profile wants is in place" in terminal.replace("\xa0", " ")
    assert not re.search(r"/(tmp|home|root|Users)/", terminal)


def test_the_map_has_every_folder_of_the_floors() -> None:
    for floor, section in _floors_of_the_map().items():
        for folder in sorted({path.parent for path in (ROOT / floor).rglob("*.py")} - {ROOT / floor}):
            names = {f"{folder.relative_to(ROOT / floor)}/", f"{folder.name}/"}
            assert any(f"`{name}`" in section for name in names), folder


def test_the_map_names_nothing_that_is_not_there() -> None:
    for floor, section in _floors_of_the_map().items():
        for name in re.findall(r"`([\w/]+(?:/|\.py))`", section):
            assert any(str(path).endswith(f"/{name.rstrip('/')}") for path in [*(ROOT / floor).rglob("*")]), (
                f"{floor}: {name}"
            )


def _floors_of_the_map() -> dict[str, str]:
    text = (ROOT / "docs/architecture.md").read_text().partition("\n## Way of the data")[0]
    sections = {part.split(":")[0]: part for part in text.split("\n### ")[1:]}
    assert set(sections) == {"flows", "tasks", "profiles", "registry_server"}
    return sections


def test_every_invariant_that_is_cited_is_in_the_architecture() -> None:
    headings = re.findall(r"^### Invariant (\d): ", (ROOT / "docs/architecture.md").read_text(), re.MULTILINE)
    assert headings == ["1", "2", "3", "4", "5"]
    code = [path for floor in (*_floors_of_the_map(), "tests") for path in (ROOT / floor).rglob("*.py")]
    cited = {number for path in code for number in re.findall(r"[Ii]nvariants? (\d)", path.read_text())}
    assert cited <= set(headings)


def test_every_invariant_has_tests_that_try_to_break_it() -> None:
    text = (ROOT / "docs/architecture.md").read_text().partition("\n## Invariants")[2]
    for invariant in text.split("\n### ")[1:]:
        assert re.findall(r"\]\(\.\./tests/[\w/]+/test_\w+\.py\)", invariant), invariant[:40]


def _walks() -> str:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    return text[text.index("### Walks") : text.index("## Words")]


def test_no_walk_enters_a_module_twice_or_has_more_than_twelve_hops() -> None:
    walks = [
        re.findall(r"^(\d+)\. `([a-z_/]+\.py)`", walk, re.MULTILINE) for walk in _walks().split("\n**")[1:]
    ]
    assert len(walks) == 3
    for walk in walks:
        files = [path for _, path in walk]
        assert len(set(files)) == len(files)
        assert [int(number) for number, _ in walk] == list(range(1, len(walk) + 1))
        assert len(walk) <= 12


def test_each_hop_of_the_walks_is_there() -> None:
    """docs/architecture.md: a file, and functions or classes that it defines."""
    hops = re.findall(r"`([a-z_/]+\.py)`: (.*)", _walks())
    assert len(hops) >= 20
    for path, sentence in hops:
        source = (ROOT / path).read_text(encoding="utf-8")
        for name in re.findall(r"`([a-zA-Z_]+)`", sentence):
            is_value = name[0].isupper() and name not in re.findall(r"class (\w+)", source)
            assert is_value or re.search(rf"(def|class) {name}\b", source), f"{path}: {name}"
