"""A demonstration scan: fourteen strategies over thirteen years of real daily prices.

``oppscan demo`` plays it: one process runs the scan, others poll it, and what is shown is what
they saw through the store. The market and the strategies are in `oppscan.demo.market` and
`oppscan.demo.strategies`; the show begins in `oppscan.demo.show`.
"""
