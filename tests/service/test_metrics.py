"""The numbers for Prometheus."""

from crisscross.service.metrics import Metrics


def test_the_text_holds_what_was_counted():
    metrics = Metrics()
    for status, seconds in ((200, 0.004), (200, 0.01), (200, 0.3), (200, 99.0), (429, 50.0)):
        metrics.request("/predict", status, seconds)
    metrics.request("/health", 200, 7.0)
    metrics.batch(3)
    metrics.batch(1)
    text = metrics.text(5, 2)
    assert text.endswith("\n") and "\n\n" not in text
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert values == {
        'crisscross_requests_total{path="/predict",status="200"}': "4",
        'crisscross_requests_total{path="/predict",status="429"}': "1",
        'crisscross_requests_total{path="/health",status="200"}': "1",
        # Cumulative; a value on a bound belongs to it.
        **{f'crisscross_predict_seconds_bucket{{le="{le}"}}': "2" for le in ("0.01", "0.025", "0.05", "0.1", "0.25")},
        **{
            f'crisscross_predict_seconds_bucket{{le="{le}"}}': "3"
            for le in ("0.5", "1.0", "2.5", "5.0", "10.0", "30.0")
        },
        'crisscross_predict_seconds_bucket{le="+Inf"}': "4",
        "crisscross_predict_seconds_sum": "99.314000",
        "crisscross_predict_seconds_count": "4",
        "crisscross_batches_total": "2",
        "crisscross_images_total": "4",
        "crisscross_under_way": "5",
        "crisscross_waiting": "2",
    }
    typed = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert typed == {line.split()[2] for line in text.splitlines() if line.startswith("# HELP")}
    bases = {
        name.partition("{")[0].removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") for name in values
    }
    assert bases == typed
