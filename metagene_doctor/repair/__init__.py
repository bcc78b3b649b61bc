"""Repair: new files from damaged ones, with nothing lost and everything counted.

`plan` says what is to be done, `batches` hands out the records with the repairs of single records
made, `survey` finds out what would change, `write` makes the new files, `recheck` reads them
again, and `run` puts these stages in order and remembers which are done.
"""
