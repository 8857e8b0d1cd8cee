"""Reports as HTML: tables to embed, and one page to explore."""
