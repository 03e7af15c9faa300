"""What every test run shares: the Hypothesis profiles.

`ci`, the default, draws the same examples each time, so that a red run can be repeated.
`pytest --hypothesis-profile=explore` looks further, differently each time.
"""

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
