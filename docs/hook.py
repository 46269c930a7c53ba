"""MkDocs: the site has the folders of the repository, so that links work in both."""

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
FOLDERS = ("docs", "results", "examples", "benchmarks", "research")


def paths() -> list[str]:
    """Pages and what they link to or show, from the root of the repository."""
    found = sorted(ROOT.glob("*.md"))
    for folder in FOLDERS:
        found += sorted(path for path in (ROOT / folder).rglob("*") if path.is_file())
    return [
        path.relative_to(ROOT).as_posix()
        for path in found
        if not path.match("docs/*.py") and "__pycache__" not in path.parts
    ]


def on_config(config: Any) -> None:
    """Add the pages that mkdocs.yml does not name: cards to the methods, results to the studies."""
    groups = {name: pages for group in config.nav for name, pages in group.items()}
    named = str(config.nav)
    for path in paths():
        if path.endswith(".md") and f"'{path}'" not in named:
            places = {"docs/methods/": "Methods", "results/": "Studies"}
            group = next((places[at] for at in places if path.startswith(at)), "Reference")
            groups[group].append(path)


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """List the cards where docs/methods/README.md says so, each with its first sentence."""
    rows = "| card | what it does |\n|---|---|\n"
    for card in sorted((ROOT / "docs" / "methods").glob("[a-z]*.md")):
        title, first, *_ = card.read_text("utf-8").removeprefix("# ").split("\n\n")
        rows += f"| [{title}]({card.name}) | {' '.join(first.split())} |\n"
    return markdown.replace("<!-- cards -->", rows)


def on_files(files: Files, config: Any) -> Files:
    """Instead of what lies in docs/."""
    theme = [file for file in files if file.src_dir != config.docs_dir]
    own = [File(path, str(ROOT), config.site_dir, use_directory_urls=False) for path in paths()]
    return Files(theme + own)


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Say to fonts and screen readers what the theme does not: a page's language, the search."""
    if page.file.src_uri.endswith(".ja.md"):
        output = output.replace('<html lang="en"', '<html lang="ja"', 1)
    return output.replace('role="dialog"', 'role="dialog" aria-label="Search"', 1)
