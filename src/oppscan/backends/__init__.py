"""Stores. `oppscan.backends.base` tells what one must do; each other file here is one."""
