"""Builds the documentation site: ``make docs``.

The site generator gets a folder with the pages of ``docs/``, with every other file of the repository that they link to,
and with pages generated from the code (command line, Python API, result schema) and from notebooks. So any generator
that reads mkdocs.yml can build it, and the links are right both in the repository and in the site.
"""
