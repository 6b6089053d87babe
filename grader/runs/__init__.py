"""A class: the run directory, what has to be run, the batch and what is published of it."""
