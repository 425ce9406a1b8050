"""The thread in which the network works, and the images that wait for it."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import NamedTuple

import numpy as np

from crisscross.inference import Predictor


class Waiting(NamedTuple):
    """An image uint8 [H, W, 3], and where its labels uint8 [H, W] go."""

    image: np.ndarray
    labels: "Future[np.ndarray]"


class Worker:
    """Labels images one batch after the other: the one that has waited longest, with others of its size.

    No image waits for others to come: a batch grows while the network is busy with the one before.

    Args:
        predictor: labels the images.
        batch: images in a batch at most.
        done: called in the worker's thread with the size of each finished batch.
    """

    def __init__(self, predictor: Predictor, batch: int, done: Callable[[int], object] = lambda size: None) -> None:
        self.predictor, self.batch, self.done = predictor, batch, done
        self.waiting: deque[Waiting] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        # Ctrl-C a second time ends the process without waiting for the network.
        self._thread = threading.Thread(target=self._run, name="network", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def submit(self, image: np.ndarray) -> "Future[np.ndarray]":
        """Let an image wait; cancel what is returned, and it is passed over."""
        found = Waiting(image, Future())
        with self._changed:
            self.waiting.append(found)
            self._changed.notify()
        return found.labels

    def stop(self) -> None:
        """Label what waits, then end the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    @property
    def works(self) -> bool:
        """Whether the thread runs and takes images."""
        return self._thread.is_alive() and not self._stopping

    def _run(self) -> None:
        while batch := self._next():
            self._label(batch)
            self.done(len(batch))
            # Otherwise the images would stay in memory until others come.
            batch.clear()

    def _next(self) -> list[Waiting]:
        """The next batch; empty when the service stops."""
        found: list[Waiting] = []
        with self._changed:
            while not found:
                self._changed.wait_for(lambda: self.waiting or self._stopping)
                if not self.waiting:
                    break
                shape = self.waiting[0].image.shape
                chosen = [one for one in self.waiting if one.image.shape == shape][: self.batch]
                taken = {id(one) for one in chosen}
                self.waiting = deque(one for one in self.waiting if id(one) not in taken)
                found = [one for one in chosen if one.labels.set_running_or_notify_cancel()]
        return found

    def _label(self, batch: Sequence[Waiting]) -> None:
        try:
            for one, found in zip(batch, self.predictor.predict([one.image for one in batch]), strict=True):
                one.labels.set_result(found.labels)
        # Whatever it is belongs to the requests, and the thread goes on.
        except Exception as error:
            if len(batch) == 1:
                batch[0].labels.set_exception(error)
                return
            # The memory may suffice for one image, or one image may be to blame.
            for one in batch:
                self._label([one])
