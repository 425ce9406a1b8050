"""What the service accepts."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of one service.

    Attributes:
        size: bytes of a request's body at most.
        pixels: pixels of an image at most.
        requests: predictions at most that are being received, waiting or computed; the next is refused.
        batch: images of one size at most that the network is shown together; a predictor shows it no more than 8.
        timeout: seconds for receiving a request, and again for computing its answer.
        hosts: names at which clients may address the service, beside `localhost` and IP addresses; "*" for any.
    """

    size: int = 20 * 2**20
    pixels: int = 2**24
    requests: int = 32
    batch: int = 8
    timeout: float = 30.0
    hosts: tuple[str, ...] = ()
