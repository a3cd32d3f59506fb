"""Serves a WSGI application on loopback: ``python serve.py MODULE:APPLICATION PORT``.

Its own arguments are taken away before the import: OpenStack's applications parse them for themselves.
"""

import importlib
import sys

import waitress

name, port = sys.argv[1:]
del sys.argv[1:]
module, _, application = name.partition(":")
waitress.serve(getattr(importlib.import_module(module), application), host="127.0.0.1", port=int(port), threads=8)
