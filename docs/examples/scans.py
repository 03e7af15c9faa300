"""The scans of a blocking service: one registry and one runner for all of its threads."""

from service import KEPT, STORE, STRATEGIES

import oppscan.sync as oppscan

registry = oppscan.connect(STORE, ttl=KEPT)  # also when made before a fork: every worker connects
runner = oppscan.StrategyRunner(registry, STRATEGIES)
