"""The pages of the Python API: every name of ``dir(harness)``, for mkdocstrings to take its docstring."""

from __future__ import annotations

import importlib

import harness

OWN = ("harness.api", "harness.adapters", "harness.results")
"""Where the functions for users are; the other names are for authors of plug-ins."""
HOOKS = "harness.registry.hookspecs"


def names() -> tuple[list[str], list[str]]:
    """The names of the API for users, functions first, and of that for authors of plug-ins."""
    users: list[str] = []
    authors: list[str] = []
    for name in dir(harness):
        if not name.startswith("_"):
            module = getattr(getattr(harness, name), "__module__", None) or ""
            (users if module.startswith(OWN) else authors).append(name)
    return [*sorted(users, key=lambda name: name[0].isupper()), "UserError"], [n for n in authors if n != "UserError"]


def api_page() -> str:
    """The functions, what they return and what they raise."""
    return _page("Python API", "The functions of the package `harness`, as their docstrings describe them.", names()[0])


def plugin_api_page() -> str:
    """Descriptors, protocols, errors and hooks."""
    hooks = [name for name in vars(importlib.import_module(HOOKS)) if name.startswith("harness_")]
    about = "The hooks of plug-ins, the descriptors that they return, the protocols of models, and the errors."
    page = _page("Plug-in API", about, names()[1])
    return page + "".join(f"::: {HOOKS}.{name}\n\n" for name in hooks)


def _page(title: str, about: str, listed: list[str]) -> str:
    return f"# {title}\n\n{about}\n\n" + "".join(f"::: harness.{name}\n\n" for name in listed)
