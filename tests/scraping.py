"""What Prometheus would see: /metrics, read over a socket and by prometheus_client's own parser."""

import time
from collections.abc import Callable

from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.raw_http import exchange, request


class Numbers(Struct, frozen=True):
    """One scrape."""

    text: str
    samples: list[Sample]
    families: dict[str, str]  # name -> type

    def of(self, name: str, **labels: str) -> float:
        """Add up the samples of a name that have these labels, whatever else they have; 0 if there are none."""
        return sum(
            sample.value for sample in self.samples if sample.name == name and labels.items() <= sample.labels.items()
        )

    def labels(self, name: str, label: str) -> set[str]:
        """Return the values of a label."""
        return {sample.labels[label] for sample in self.samples if sample.name == name}


def scrape(port: int) -> Numbers:
    response = exchange(port, request("/metrics", {}, b"", "GET"))
    assert response.status == 200, response
    text = response.body.decode()
    families = list(text_string_to_metric_families(text))
    samples = [sample for family in families for sample in family.samples]
    return Numbers(text, samples, {family.name: family.type for family in families})


def until(port: int, is_so: Callable[[Numbers], bool], seconds: float = 15) -> Numbers:
    """Scrape until something is so; workers write down once a second what the others show of them."""
    end = time.monotonic() + seconds
    while not is_so(numbers := scrape(port)):
        assert time.monotonic() < end, f"it does not become so:\n{numbers.text}"
        time.sleep(0.05)
    return numbers
