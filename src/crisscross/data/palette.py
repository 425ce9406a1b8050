"""Colours for classes that come without any."""


def default_palette(classes: int) -> tuple[tuple[int, int, int], ...]:
    """RGB colours (0..255) by the bit-spreading rule of the Pascal VOC development kit, without its black first one."""
    colours = []
    for index in range(1, classes + 1):
        channels = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                channels[channel] |= ((index >> (3 * bit + channel)) & 1) << (7 - bit)
        colours.append((channels[0], channels[1], channels[2]))
    return tuple(colours)
