"""The calibration curve: how often labels of each probability are right, and how many there are."""

from crisscross.metrics import Calibration
from crisscross.report.svg import drawing, hint, line, tag, text

WIDTH, LEFT, RIGHT = 360.0, 62.0, 12.0
# The ends of both charts, from the top.
TOP, BOTTOM, LOWER_TOP, LOWER_BOTTOM = 10.0, 270.0, 288.0, 338.0


def reliability_chart(calibration: Calibration) -> str:
    """Accuracy by probability above, with the diagonal of a calibrated network; fractions of the pixels below."""
    span, height = WIDTH - LEFT - RIGHT, BOTTOM - TOP
    bins = [*zip(calibration.fractions, calibration.confidence, calibration.accuracy, strict=True)]
    most, step, parts = max(calibration.fractions) or 1.0, span / len(bins), []
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = LEFT + value * span, BOTTOM - value * height
        parts += [line(LEFT, y, WIDTH - RIGHT, y, "grid"), text(f"{value:g}", LEFT - 8, y + 4.5, "end")]
        parts += [text(f"{value:g}", x, LOWER_BOTTOM + 18, "middle")]
    for number, (fraction, confidence, accuracy) in enumerate(bins):
        if confidence is None or accuracy is None:
            continue
        x = LEFT + number * step
        said = f"probability {confidence:.3f}: {accuracy:.3f} right, {fraction:.2%} of the pixels"
        box = {"x": x + 1, "width": step - 2, "class_": "accent"}
        parts.append(tag("rect", hint(said), y=BOTTOM - accuracy * height, height=accuracy * height, **box))
        tall = fraction / most * (LOWER_BOTTOM - LOWER_TOP)
        parts.append(tag("rect", hint(said), y=LOWER_BOTTOM - tall, height=tall, **box))
    parts.append(line(LEFT, BOTTOM, WIDTH - RIGHT, TOP, "diagonal"))
    for _, confidence, _ in bins:
        if confidence is not None:
            x, y = LEFT + confidence * span, BOTTOM - confidence * height
            parts.append(tag("circle", cx=x, cy=y, r=3.2, class_="dot ink"))
    parts += [line(LEFT, end, WIDTH - RIGHT, end, "axis") for end in (BOTTOM, LOWER_BOTTOM)]
    middle = (TOP + BOTTOM) / 2
    turned = f"rotate(-90 12 {middle:g})"
    parts.append(text("fraction that is right", 12, middle, "middle", "label", transform=turned))
    parts.append(text(f"{most:.0%}", LEFT - 8, LOWER_TOP + 6, "end"))
    parts.append(text("probability of the label", LEFT + span / 2, LOWER_BOTTOM + 38, "middle", "label"))
    return drawing("".join(parts), WIDTH, LOWER_BOTTOM + 46, "Calibration curve", "calibration", largest=1.3)
