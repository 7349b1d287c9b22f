"""placeholder"""

from contextlib import contextmanager

MUTANTS = {"": None}


@contextmanager
def planted(name):
    yield
