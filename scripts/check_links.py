"""Check that every link inside a built site leads somewhere, and list the links that leave it.

Sphinx's linkcheck follows only links to other sites, which no machine can reach from everywhere.
"""

from __future__ import annotations

import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """What a page links to, and what in it can be linked to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect addresses and anchors."""
        # From a reference back to where it is cited: docutils writes them also for what is cut.
        if ("role", "doc-backlink") in attrs:
            return
        for name, value in attrs:
            if value and (name == "id" or (tag == "a" and name == "name")):
                self.anchors.add(value)
            elif value and name in ("href", "src"):
                self.links.add(value)


page = cache(Page)


def main(site: Path) -> int:
    """Print what is wrong, then the sites that are linked to; 1 where anything is wrong."""
    wrong, outside, count = [], set(), 0
    # The theme's templates are beside its styles.
    for path in sorted(p for p in site.rglob("*.html") if "_static" not in p.parts):
        for link in sorted(page(path).links):
            to = urlsplit(link)
            if to.scheme or to.netloc:
                outside.add(link)
                continue
            count += 1
            target = (path.parent / unquote(to.path)).resolve() if to.path else path.resolve()
            target = target / "index.html" if target.is_dir() else target
            anchor = unquote(to.fragment)
            if not target.exists():
                wrong.append(f"{path.relative_to(site)}: no file {link}")
            elif anchor and target.suffix == ".html" and anchor not in page(target).anchors:
                wrong.append(f"{path.relative_to(site)}: no anchor {link}")
    sys.stdout.write("".join(f"{line}\n" for line in [*wrong, *sorted(outside)]))
    sys.stdout.write(f"{count:,} links inside the site, {len(wrong)} of them wrong\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
