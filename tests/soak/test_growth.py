"""The soak's verdict counts growth by each replaced destination, and not a worker's warm-up."""

from __future__ import annotations

import pytest

from tests.soak.__main__ import main
from tests.soak.growth import Sample, growth_per_replaced


def test_growth_is_per_replaced_destination() -> None:
    assert growth_per_replaced([Sample(100 * n, 2**27 + 100 * n * 1_500) for n in range(20)]) == pytest.approx(1_500)


def test_a_warm_up_is_no_growth() -> None:
    assert growth_per_replaced([Sample(100 * n, 2**27 + min(n, 10) * 2**20) for n in range(20)]) == 0


def test_a_few_higher_samples_are_no_growth() -> None:
    assert growth_per_replaced([Sample(100 * n, 2**27 + 2**23 * (n in {13, 19})) for n in range(20)]) == 0


def test_a_few_samples_tell_nothing() -> None:
    assert growth_per_replaced([Sample(100 * n, 2**27) for n in range(10)]) is None


def test_the_soak_describes_itself(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["soak", "--help"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert "--minutes" in capsys.readouterr().out
