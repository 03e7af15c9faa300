"""What every test run shares: the Hypothesis profiles, and signals as a terminal gives them.

`ci`, the default, draws the same examples each time, so that a red run can be repeated.
`pytest --hypothesis-profile=explore` looks further, differently each time.
"""

import signal

import pytest
from hypothesis import settings

settings.register_profile(
    "ci",
    derandomize=True,
    database=None,
    deadline=None,  # machines that run this are shared; hangs are pytest-timeout's business
    print_blob=True,
)
settings.register_profile("explore", max_examples=2_000, deadline=None, print_blob=True)
settings.load_profile("ci")


@pytest.fixture(autouse=True, scope="session")
def ctrl_c_is_heard() -> None:
    """A shell's background job ignores Ctrl-C, and so would the programs that tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
