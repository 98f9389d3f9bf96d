"""Sphinx settings: MyST pages, the furo theme, reference pages from docstrings."""

from sphinx.util.nodes import make_refnode

import glmflash

project = "glmflash"
author = "the glmflash authors"
copyright = f"2026, {author}"  # noqa: A001  # Sphinx reads this name
release = version = glmflash.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"glmflash {release}"
nitpicky = True
# Names of other projects cannot be looked up offline; our own must resolve.
nitpick_ignore = [  # what only the engine makes and only it takes, and what any pipeline is
    ("py:class", "glmflash.engine.inputs.Inputs"),
    ("py:class", "glmflash.engine.live.Live"),
    ("py:class", "glmflash.engine.prefix.Prefix"),
    ("py:class", "glmflash.engine.sequence.Sequence"),
    ("py:class", "glmflash.engine.engine.T"),
    ("py:class", "glmflash.kv.store.Layer"),
    ("py:class", "glmflash.media.patches.ClipPatches"),
    ("py:class", "glmflash.media.patches.Patches"),
    ("py:class", "glmflash.session.history.Asked"),
    ("py:class", "glmflash.engine.encoded._Pipeline"),
    ("py:class", "glmflash.plan.job.Job"),
    ("py:class", "glmflash.quant.joint.JointWeight"),
    ("py:class", "glmflash.structured.extraction.T"),
    ("py:obj", "glmflash.structured.extraction.T"),
    ("py:class", "glmflash.asks.Asks"),
]
nitpick_ignore_regex = [("py:.*", r"(?!glmflash\.).*")]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

default_role = "code"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Shapes", "notes_style"), ("Source", "notes_style")]


TOP = ("reference/pipeline", "reference/errors")


def first_line_of_modules(app, what, name, obj, options, lines):
    """A module's drawing is for readers of the code; its page says what the first line says."""
    if what == "module":
        del lines[1:]


def once(app, what, name, obj, skip, options):
    """A name that the package offers at the top is described there alone, errors on their own page."""
    page = app.env.docname
    error = name in glmflash.errors.__all__
    top = name in glmflash.__all__ and getattr(glmflash, name) is obj
    return True if page == "reference/pipeline" and error else True if top and page not in TOP else None


def by_public_name(app, env, node, contnode):
    """Annotations name the module that defines a class; link to where it is public."""
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py" or not target.startswith("glmflash."):
        return None
    objects = env.domains.python_domain.objects
    same = [name for name in objects if name.endswith("." + target.rpartition(".")[2])]
    if not same:
        return None
    found = objects[min(same, key=len)]
    return make_refnode(app.builder, node["refdoc"], found.docname, found.node_id, contnode, target)


def setup(app):
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", first_line_of_modules)
    app.connect("autodoc-skip-member", once)
    app.connect("missing-reference", by_public_name)
