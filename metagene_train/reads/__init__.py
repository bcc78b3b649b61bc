"""Bytes to reads: one pass that accounts for every byte, and random access afterwards.

`sources` hands out the bytes of a file, unpacked, and notices damaged compression; `records` says what
the format is and where records start and end; `headers` takes headers apart; `counts` adds up. `scan` is
the one pass over a file, which `ranges` and `parallel` let several processes share, and writes the
`index`, through which `access` gives reads by number.
"""
