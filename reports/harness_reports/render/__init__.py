"""Reports as Markdown and LaTeX."""
