"""A demonstration scan: fourteen strategies over thirteen years of real daily prices."""
