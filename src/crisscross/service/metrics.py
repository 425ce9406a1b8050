"""Numbers about the service, in Prometheus' text format."""

from bisect import bisect_left
from collections import Counter
from itertools import accumulate

# Upper bounds in seconds.
BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """Counts of requests by path and status, seconds of answered predictions, batches and their images."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.seconds = [0] * (len(BUCKETS) + 1)
        self.total = 0.0
        self.batches = self.images = 0

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count a request that has got its answer."""
        self.requests[path, status] += 1
        if path == "/predict" and status == 200:
            self.seconds[bisect_left(BUCKETS, seconds)] += 1
            self.total += seconds

    def batch(self, images: int) -> None:
        """Count a batch that the network has seen."""
        self.batches += 1
        self.images += images

    def text(self, under_way: int, waiting: int) -> str:
        """All numbers; `under_way` predictions are being received, waiting or computed, `waiting` wait."""
        counts = list(accumulate(self.seconds))
        name = "crisscross_predict_seconds"
        lines = [
            "# HELP crisscross_requests_total Requests by path and status of the answer.",
            "# TYPE crisscross_requests_total counter",
            *(
                f'crisscross_requests_total{{path="{path}",status="{status}"}} {count}'
                for (path, status), count in sorted(self.requests.items())
            ),
            f"# HELP {name} Seconds from the request to its answer, of predictions that were answered.",
            f"# TYPE {name} histogram",
            *(
                f'{name}_bucket{{le="{bound}"}} {count}'
                for bound, count in zip((*BUCKETS, "+Inf"), counts, strict=True)
            ),
            f"{name}_sum {self.total:.6f}",
            f"{name}_count {counts[-1]}",
        ]
        for title, kind, value, line in (
            ("batches_total", "counter", self.batches, "Calls of the network."),
            ("images_total", "counter", self.images, "Images that the network has labeled."),
            ("under_way", "gauge", under_way, "Predictions that are being received, waiting or computed."),
            ("waiting", "gauge", waiting, "Images that wait for the network."),
        ):
            head = f"crisscross_{title}"
            lines += [f"# HELP {head} {line}", f"# TYPE {head} {kind}", f"{head} {value}"]
        return "\n".join(lines) + "\n"
