"""Running strategies: other people's code, made to come out right whatever it does.

``strategies`` says what a strategy is and what its answer means, ``threads`` where blocking ones
run, ``executors`` how processes and clusters are used, ``attempt`` how one strategy is run once
on an event loop, and ``asynchronous`` is `StrategyRunner`; its blocking twin is in
``oppscan.sync``.
"""
