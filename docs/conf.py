"""Settings of the documentation site: `make docs` builds it, nothing is fetched, and it is read offline."""

from __future__ import annotations

import sys
from pathlib import Path

from ddnet import __version__

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "DDNet Bench"
author = "The DDNet Bench authors"
copyright = author
release = version = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "project_pages"]
exclude_patterns = ["_build"]
nb_execution_mode = "off"  # `make tutorial` runs it and keeps its outputs
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
suppress_warnings = ["mystnb.unknown_mime_type"]
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"

html_theme = "furo"
html_title = f"DDNet Bench {version}"
html_theme_options = {"navigation_with_keys": True}
html_show_sourcelink = False
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["tables.css"]
