"""Scans in Redis or Valkey: one server, a Sentinel's master, or a cluster. Extra: ``redis``.

===============  ================================================================
`.store`         `RedisBackend`: runs plans, through clients of each loop and process
`.address`       where a store is, read from a URL
`.clients`       redis-py clients as this store needs them
`.faces`         the awaiting and the blocking way to answer the steps of a plan
`.batch`         reads of one loop that leave together
`.clock`         what a process knows of its stores' time
`.faults`        what redis-py raises, as our errors
`.requests`      requests as what is sent, replies as theirs
`.layout`        the names of keys, and the bytes under them
`.scripts`       the scripts, by name: ``apply.lua``, ``read.lua``, ``sweep.lua``
===============  ================================================================
"""

from oppscan.backends.redis.store import RedisBackend

__all__ = ["RedisBackend"]
