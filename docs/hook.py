"""MkDocs: the site has the folders of the repository, so that links work in both."""

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "README.ja.md", "CONTRIBUTING.md", "CHANGELOG.md")
FOLDERS = ("docs", "results", "examples")


def on_config(config: Any) -> None:
    """The pages of results/ into the navigation, as they come."""
    (studies,) = (group["Studies"] for group in config.nav if "Studies" in group)
    studies += sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("results/*.md"))


def on_files(files: Files, config: Any) -> Files:
    """Instead of what lies in docs/: pages, and what they link to or show."""
    paths = [ROOT / name for name in PAGES]
    for folder in FOLDERS:
        paths += sorted(path for path in (ROOT / folder).rglob("*") if path.is_file())
    theme = [file for file in files if file.src_dir != config.docs_dir]
    own = [
        File(
            path.relative_to(ROOT).as_posix(), str(ROOT), config.site_dir, use_directory_urls=False
        )
        for path in paths
        if path != Path(__file__) and "__pycache__" not in path.parts
    ]
    return Files(theme + own)


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Say to fonts and screen readers what the theme does not: a page's language, the search."""
    if page.file.src_uri.endswith(".ja.md"):
        output = output.replace('<html lang="en"', '<html lang="ja"', 1)
    return output.replace('role="dialog"', 'role="dialog" aria-label="Search"', 1)
