"""How a case gets its name and its place in the table."""

from functools import partial


def into(table):
    """Gives `@case`, which puts a function `(world)` into the table, or `(world, value)` once for
    each of the given values, under the name `function[id]`."""

    def case(values=None):
        def put(function):
            if values is None:
                table.append((function.__name__, function))
            else:
                for name, value in values.items():
                    table.append((f"{function.__name__}[{name}]", partial(function, value=value)))
            return function
        return put

    return case
