"""Bytes to reads: format sniffing, integrity, the one-pass scan, headers, bases and the read index.

`formats` says what a file is, `opening` opens it, also
pipes; `source` hands out its bytes and notices damaged compression,
`records` finds the records, `scan` counts everything in one pass (`ranges` and
`parallel` let several processes share it), `index` gives random access.
"""
