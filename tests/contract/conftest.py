"""Asserts of the suite are explained also where a test takes single groups of cases from it."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("oppscan.testing.cases")
