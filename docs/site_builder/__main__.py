"""Collects the pages, builds the site strictly, checks its links: ``python -m site_builder [--online] [--no-build]``.

``--online`` also asks the servers of external links; ``--no-build`` checks a site that is there already.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from site_builder.links import check, online_problems
from site_builder.pages import collect

ROOT = Path(__file__).resolve().parents[2]
PAGES, SITE = ROOT / "build" / "docs", ROOT / "site"


def main(words: list[str]) -> int:
    """Exit code 0 if the site was built without a warning and every internal link leads somewhere."""
    started = time.monotonic()
    if "--no-build" not in words:
        collect(ROOT, PAGES)
        command = [sys.executable, "-m", "properdocs", "build", "--strict", "--quiet", "--clean"]
        done = subprocess.run([*command, "--config-file", str(ROOT / "mkdocs.yml")], cwd=ROOT, check=False)
        if done.returncode:
            return done.returncode
    found = check(SITE)
    problems = [*found.problems, *(online_problems(found.external) if "--online" in words else ())]
    for problem in problems:
        print(problem, file=sys.stderr)
    asked = "asked" if "--online" in words else "not asked (--online asks)"
    print(
        f"{SITE.relative_to(ROOT)}: {found.pages} pages, {found.links} internal links, {found.assets} assets checked, "
        f"{len(found.external)} external addresses {asked}, "
        f"{len(problems)} problems, {time.monotonic() - started:.0f} s"
    )
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
