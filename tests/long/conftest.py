"""Long looks at a store, run by name: nox -s redis. Their servers are those of tests/redis."""

from tests.redis.conftest import no_key_stays_for_ever, shared, valkey

__all__ = ["no_key_stays_for_ever", "shared", "valkey"]
