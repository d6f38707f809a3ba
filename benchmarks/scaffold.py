"""pass"""


def new_method(key): ...
