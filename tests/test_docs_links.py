"""Links of the documents, what the first page promises of itself, and the pages of the site."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page: Path) -> None:
    text = re.sub(
        r"^```.*?^```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    for link in LINK.findall(text):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link
        # the site has nothing but docs/
        assert page.parent == ROOT or DOCS in target.resolve().parents, link


def test_a_heading_is_an_anchor() -> None:
    assert "data-of-ones-own" in anchors(DOCS / "data.md")


def test_the_first_page_is_short_and_its_picture_light() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    pictures = [ROOT / link for link in LINK.findall(text) if link.endswith(".png")]
    assert len(pictures) == 1
    assert pictures[0].stat().st_size <= 300_000


def test_every_page_is_linked_from_the_first_and_on_the_site() -> None:
    pages = {page.name for page in DOCS.glob("*.md")} - {"index.md"}
    linked = set(LINK.findall((ROOT / "README.md").read_text(encoding="utf-8")))
    assert {f"docs/{page}" for page in pages} <= {link.partition("#")[0] for link in linked}
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    listed = [
        page for part in nav for page in ([part] if isinstance(part, str) else next(iter(part.values())))
    ]
    assert sorted(listed) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


def test_the_public_interface_is_on_the_site() -> None:
    import gl_ris

    text = "\n".join(page.read_text(encoding="utf-8") for page in (DOCS / "api").glob("*.md"))
    left = {"LargestProposal", "RandomProposal", "load_scorer", "ZeroShotRIS"}
    assert {name for name in gl_ris.__all__ if not re.search(rf"\b{name}\b", text)} == left
