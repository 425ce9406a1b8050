"""Writes tests/helpers/opencv_resizes.npz: what OpenCV makes of drawn images. Run it with the build to follow.

python tests/helpers/make_opencv_resizes.py
"""

from pathlib import Path

import numpy as np

FILE = Path(__file__).with_name("opencv_resizes.npz")
# (height, width) of an image, and the sizes that it is resized to.
SIZES = {
    (24, 36): [
        (24, 36),
        (12, 18),
        (12, 36),
        (24, 18),
        (6, 9),
        (8, 12),
        (48, 72),
        (31, 47),
        (17, 25),
        (23, 35),
        (25, 37),
    ],
    (23, 31): [(11, 15), (46, 62), (1, 1), (1, 31), (23, 1), (5, 70), (29, 40), (22, 31)],
    (1, 29): [(1, 58), (1, 14), (3, 29), (2, 50)],
    (19, 1): [(38, 1), (9, 1), (19, 4), (11, 3)],
    (1, 1): [(1, 1), (4, 5)],
    (2, 2): [(1, 1), (2, 1), (5, 3)],
    (45, 60): [(67, 90), (34, 45)],
}


def draw(height, width):
    """uint8 [H, W, 3], from 0 to 255: slopes, a chessboard of black and white, and a pattern without any order."""
    rows, columns = np.mgrid[:height, :width].astype(np.int64)
    slopes = (rows * 5 + columns * 3) % 256
    chess = (rows // 2 + columns // 3) % 2 * 255
    jumble = ((rows * 1009 + columns * 9176 + rows * columns * 631) ** 2 >> 3) % 256
    return np.stack([slopes, chess, jumble], 2).astype(np.uint8)


def main():
    import cv2

    found = {}
    for (height, width), sizes in SIZES.items():
        image = draw(height, width)
        for size in sizes:
            name = f"{height}x{width} to {size[0]}x{size[1]}"
            linear = cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
            found[f"linear {name}"] = linear.reshape(*size, 3)
            found[f"nearest {name}"] = cv2.resize(image[..., 2], (size[1], size[0]), interpolation=cv2.INTER_NEAREST)
    np.savez_compressed(FILE, version=np.array(cv2.__version__), **found)


if __name__ == "__main__":
    main()
