"""A page in one file: what it may do is in its own head, and nothing comes from elsewhere."""

import base64
import hashlib
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from jaxnn.seeing.colours import css

HERE = Path(__file__).parent


def page(template: str, title: str, data, scripts: tuple[str, ...] = (), refresh: int = 0, **parts) -> str:
    """The page that a template makes of its data, as HTML.

    `data` goes into the page as JSON, for its scripts, which are files of this folder. `parts` are for the
    template: text is escaped, unless it is markupsafe.Markup. With `refresh` the page reloads itself after
    so many seconds. Its Content-Security-Policy allows these scripts, its own styles and images, no more.

    >>> "&lt;b&gt;" in page("base.html", "<b>", {})
    True
    """
    sources = [(HERE / script).read_text(encoding="utf-8") for script in scripts]
    allowed = " ".join(f"'sha256-{_sha256(source)}'" for source in sources) or "'none'"
    policy = f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:"
    given = {"title": title, "data": data, "scripts": sources, "policy": policy, "refresh": refresh}
    return _environment().get_template(template).render(given, colours=css(), **parts)


def _sha256(source: str) -> str:
    return base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
