"""Serves a WSGI application on loopback: ``python serve.py MODULE:APPLICATION PORT [THREADS]``.

Its own arguments are taken away before the import: OpenStack's applications parse them for
themselves.
"""

import importlib
import sys

import waitress

name, port, *threads = sys.argv[1:]
del sys.argv[1:]
module, _, application = name.partition(":")
served = getattr(importlib.import_module(module), application)
waitress.serve(served, host="127.0.0.1", port=int(port), threads=int(threads[0]) if threads else 8)
