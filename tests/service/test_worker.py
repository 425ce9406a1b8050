"""The images that wait for the network: in which order and how many at once they are labeled."""

import threading

import numpy as np
import pytest
from filter_bank import image_of
from served import CARD, predictor

from crisscross.inference import Predictor
from crisscross.service.worker import Worker

SMALL, LARGE = (40, 56), (64, 48)


class Gated:
    """A predictor that writes down the batches it is given, and labels the first when `go` is set."""

    def __init__(self, fails=lambda x: False):
        self.seen, self.go, self.entered = [], threading.Event(), threading.Event()
        inner = predictor().stages

        def logits_of(x):
            self.seen.append(x.shape)
            self.entered.set()
            assert self.go.wait(60)
            if fails(x):
                raise MemoryError("too large")
            return inner.encode(x)

        self.predictor = Predictor(logits_of, CARD)


def images(*sizes):
    return [image_of(*size, seed) for seed, size in enumerate(sizes)]


def run(gated, given, batch, before=lambda futures: None):
    """What is labeled of images that come while the network is busy with the first."""
    done = []
    worker = Worker(gated.predictor, batch, done.append)
    worker.start()
    futures = [worker.submit(given[0])]
    assert gated.entered.wait(60)
    futures += [worker.submit(image) for image in given[1:]]
    before(futures)
    gated.go.set()
    worker.stop()
    return futures, done


def test_images_of_one_size_go_together_and_the_oldest_goes_first():
    given = images(SMALL, LARGE, SMALL, LARGE, SMALL, SMALL, LARGE, LARGE, (40, 60))
    gated = Gated()
    futures, done = run(gated, given, batch=3)
    small, large = (3, *SMALL), (3, *LARGE)
    assert [(shape[0], shape[1:]) for shape in gated.seen] == [
        (1, small),
        (3, large),
        (3, small),
        (1, large),
        (1, (3, 40, 60)),
    ]
    assert done == [1, 3, 3, 1, 1]
    for image, future in zip(given, futures, strict=True):
        assert np.array_equal(future.result(0), predictor().predict(image).labels)


def test_one_at_a_time():
    gated = Gated()
    run(gated, images(*[SMALL] * 4), batch=1)
    assert [shape[0] for shape in gated.seen] == [1] * 4


def test_what_was_cancelled_is_not_labeled():
    gated = Gated()
    futures, done = run(gated, images(*[SMALL] * 5), 2, lambda futures: [futures[n].cancel() for n in (0, 1, 3)])
    # The first was being labeled.
    assert [future.cancelled() for future in futures] == [False, True, False, True, False]
    assert [shape[0] for shape in gated.seen] == [1, 1, 1] and done == [1, 1, 1]


def test_where_a_batch_fails_each_image_is_tried_alone():
    gated = Gated(lambda x: len(x) > 1)
    futures, _ = run(gated, images(*[SMALL] * 4), batch=3)
    assert [shape[0] for shape in gated.seen] == [1, 3, 1, 1, 1]
    assert all(future.result(0).shape == SMALL for future in futures)
    # One image is to blame: the others get their labels, and the thread lives.
    given = images(*[SMALL] * 3, LARGE)
    given[1][:] = 77
    gated = Gated(lambda x: len(x) > 1 or bool((x[:, 0] == x[0, 0, 0, 0]).all()))
    futures, _ = run(gated, given, batch=3)
    assert [future.exception(0) is None for future in futures] == [True, False, True, True]
    with pytest.raises(MemoryError, match="too large"):
        futures[1].result(0)


def test_it_tells_whether_it_works():
    gated = Gated()
    gated.go.set()
    worker = Worker(gated.predictor, 1)
    assert not worker.works
    worker.start()
    assert worker.works
    worker.stop()
    assert not worker.works
