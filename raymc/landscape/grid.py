"""Values of t at which paths are looked at. Light, so that planning needs no torch."""


def even_points(count: int) -> list[float]:
    """`count` evenly spaced values of t from exactly 0 to exactly 1."""
    return [i / (count - 1) for i in range(count)]
