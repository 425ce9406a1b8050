"""Rules that several sections share; each names the key, the rule and the value found."""

from crisscross.errors import CrissCrossError


def require(holds: bool, key: str, rule: str, value: object) -> None:
    if not holds:
        raise CrissCrossError(f"{key} must be {rule}, got {value}")


def at_least(node: object, prefix: str, low: float, *names: str) -> None:
    for name in names:
        value = getattr(node, name)
        require(value >= low, f"{prefix}.{name}", f"at least {low}", value)


def fraction(node: object, prefix: str, *names: str) -> None:
    for name in names:
        value = getattr(node, name)
        require(0 <= value <= 1, f"{prefix}.{name}", "between 0 and 1", value)


def sides_fit(sides: tuple[int, int] | None, key: str) -> None:
    require(sides is None or min(sides) >= 1, key, "at least 1 x 1", list(sides or ()))


def positive(node: object, prefix: str, *names: str) -> None:
    for name in names:
        value = getattr(node, name)
        require(value > 0, f"{prefix}.{name}", "above 0", value)
