"""The Redis and Valkey store, in the making: it joins the package once it meets its own list.

`connect` knows no ``redis:`` URL yet. Its tests are a session of their own:
``nox -s redis``.
"""
