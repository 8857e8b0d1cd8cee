"""Plug-ins: hooks, descriptors' checks, and models as the command line names them."""
