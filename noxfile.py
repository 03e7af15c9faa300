"""Every check of this project, as nox sessions.

Owns how checks are run; what they demand is in pyproject.toml. Laws:

- Only Python and pip have to be there: nothing is downloaded but packages.
- `tests` runs on the interpreter that runs nox and is never skipped; `compat-X.Y` runs on every
  other supported one that is installed, and is skipped where it is not.
- The installed wheel is tested, not the source tree.
"""

import os
import sys

import nox
from nox.command import CommandFailed

nox.needs_version = ">=2025.11.12"  # the first with options.download_python
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["lint", "types", "tests", "compat"]

# uv asks neither pip's configuration nor, by default, the system's certificates.
os.environ.setdefault("UV_SYSTEM_CERTS", "true")
os.environ.setdefault("UV_PYTHON_DOWNLOADS", "never")

PYPROJECT = nox.project.load_toml("pyproject.toml")
RUNNING = "{}.{}".format(*sys.version_info)
IN_PARALLEL = ("-n", "2")  # half an hour on two cores is what CI may take
OTHERS = [version for version in nox.project.python_versions(PYPROJECT) if version != RUNNING]


def install(session: nox.Session, *groups: str, project: str | None = None) -> None:
    """Install dependency groups and, if named, the project with its extras.

    Where uv cannot (an index that only pip is configured for), pip does it, from the
    environment that nox runs in.
    """
    wanted = nox.project.dependency_groups(PYPROJECT, *groups)
    if project is not None:
        wanted = (*wanted, project)
    try:
        session.install(*wanted)
    except CommandFailed:
        session.warn("The installer failed; trying pip.")
        session.run_install(
            *(sys.executable, "-m", "pip", "--python", session.virtualenv.location),
            *("install", "--quiet", *wanted),
            external=True,
        )


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff: rules and formatting."""
    install(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """mypy, pyright, and the completeness of the public types."""
    install(session, "types", "test", "dev", project=".[all]")
    session.run("mypy")
    session.run("pyright")
    session.run("pyright", "--verifytypes", "oppscan", "--ignoreexternal")


@nox.session
def tests(session: nox.Session) -> None:
    """All tests, with the coverage floor; arguments go to pytest and lift the floor."""
    install(session, "test", project=".[all]")
    if session.posargs:
        session.run("pytest", *session.posargs)
        return
    session.run("pytest", "-m", "control", *IN_PARALLEL)
    session.run("pytest", "-m", "again", *IN_PARALLEL)
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", "-m", "not control and not again", *IN_PARALLEL)
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report")


@nox.session(python=OTHERS)
def compat(session: nox.Session) -> None:
    """The tests on the other supported Pythons, of Redis on a fake; arguments go to pytest."""
    install(session, "test", project=".[all]")
    session.run("pytest", *(session.posargs or ["-m", "not control and not server"]))


@nox.session
def lowest(session: nox.Session) -> None:
    """All tests with the oldest dependencies that pyproject.toml admits (not run by default)."""
    extras = PYPROJECT["project"]["optional-dependencies"]
    direct = {*PYPROJECT["project"]["dependencies"]}.union(*extras.values()) - {*extras["all"]}
    session.install("--resolution=lowest-direct", *sorted(direct))
    install(session, "test", project=".[all]")  # satisfied by what is there, so nothing moves up
    session.run("pytest", *session.posargs)


@nox.session
@nox.parametrize("release", ["redis==5.0.1", "redis==6.*", "redis==7.*", "redis>=8"])
def redis(session: nox.Session, release: str) -> None:
    """The Redis store with each major redis-py, and long looks at it (not run by default)."""
    install(session, "test", project=".[all]")
    session.install(release)
    session.run("pytest", *(session.posargs or ["tests/redis", "tests/long"]))


@nox.session
@nox.parametrize("group", ["hosts", "arq"])
def hosts(session: nox.Session, group: str) -> None:
    """The examples of docs/examples in real task queues and servers (not run by default)."""
    install(session, "test", group, project=".[all]")
    chosen = ["-k", "arq"] if group == "arq" else ["-k", "not arq"]
    session.run("pytest", *chosen, *(session.posargs or ["tests/hosts"]))


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation, warnings being errors (not run by default)."""
    install(session, "docs", project=".[all]")
    session.run("sphinx-build", "-nW", "--keep-going", "docs", "docs/_build/html")
