"""How Sphinx builds these pages: MyST Markdown in, Furo out; nothing is fetched from elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

# Needs no Django: names of the package are loaded when they are used.
from django_taskq import __version__

project = "django_taskq"
author = "The django_taskq authors"
copyright = author
version = release = __version__

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]

#: Headings down to this level can be linked to: "settings.md#options".
myst_heading_anchors = 3
#: "Term", then ": what it means".
myst_enable_extensions = ["deflist"]

html_theme = "furo"
html_title = f"django_taskq {version}"
html_copy_source = False
html_show_sphinx = False
pygments_style = "tango"
pygments_dark_style = "monokai"
