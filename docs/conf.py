"""How Sphinx builds the documentation: `nox -s docs`."""

from importlib.metadata import version as installed_version

project = "oppscan"
author = "oppscan contributors"
copyright = "2026, oppscan contributors"
release = version = installed_version("oppscan")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
nitpicky = True

autodoc_typehints = "description"
autodoc_member_order = "bysource"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"oppscan {release}"
