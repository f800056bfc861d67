"""The sheets' claims hold, and the checks find wrong ones; parameter counts; exponents and crossovers."""

import itertools
import math

import pytest
import torch
from scipy.stats import linregress

from hw_attention_theory import claims, fast_linear_attention, measure, models, parameter_counts, scaling_report
from hw_attention_theory.measure import Case

CLAIMS = {claim.name: claim for claim in claims.CLAIMS}


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_holds_and_says_what_was_tried(name):
    result = claims.check(CLAIMS[name], seed=1, draws=3)
    assert result["holds"] and result["largest_error"] <= result["tolerance"]
    assert result["draws"] == 3
    assert all(1 <= low <= high for low, high in result["sizes"].values())
    assert claims.check(CLAIMS[name], seed=1, draws=3) == result


def wrong_weights(phi, dimension, terms):
    right(phi, dimension, terms)
    phi.factorials[-1] *= 2


def one_monomial_twice(phi, dimension, terms):
    right(phi, dimension, terms)
    phi.size += 1


right = models.FeatureMap.__init__


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda patch: patch.setattr(models.FeatureMap, "__init__", wrong_weights),
         ["feature_product", "linear_is_quadratic", "causal_is_masked"]),
        (lambda patch: patch.setattr(models.FeatureMap, "__init__", one_monomial_twice), ["feature_count"]),
        (lambda patch: patch.setattr(claims, "exponential_series", lambda t, terms: t - terms), ["positive"]),
        (lambda patch: patch.setattr(claims, "remainder", lambda r, terms: 1e-9),
         ["exponential_error", "attention_error"]),
        (lambda patch: patch.setattr(torch.linalg, "inv", lambda B: B), ["same_heads"]),
        (lambda patch: patch.setattr(torch.linalg, "svdvals", lambda A: torch.ones(len(A))), ["rank"]),
        (lambda patch: patch.setattr(claims, "TaylorLinearAttention", lambda D, K: models.SoftmaxSelfAttention()),
         ["linear_cost"]),
        (lambda patch: patch.setattr(fast_linear_attention, "_append_ones", lambda V: torch.cat([V, V[..., :1]], -1)),
         ["linear_is_quadratic", "causal_is_masked"]),
    ],
    ids=["weights", "count", "series", "bound", "inverse", "rank", "cost", "denominator"],
)  # fmt: skip
def test_a_claim_fails_where_it_is_wrong(monkeypatch, change, names):
    change(monkeypatch)
    for name in names:
        assert not claims.check(CLAIMS[name], seed=1, draws=20)["holds"], name


def test_not_a_number_is_no_small_error():
    claim = claims.Claim("nan", "", "", lambda draw: ({"L": 1}, math.nan if draw.random() < 0.5 else 0.0), 1.0)
    assert not claims.check(claim, seed=1)["holds"]


def test_bounds_are_above_what_they_bound():
    t = torch.linspace(-0.9, 0.9, 19, dtype=torch.float64)
    for terms in (1, 3, 4):
        error = (1 - models.exponential_series(t, terms) / t.exp()).abs()
        assert (error <= torch.tensor([claims.remainder(abs(x), terms) for x in t.tolist()]) + 1e-15).all()
    assert claims.attention_bound(8.0, 3) == math.inf


# Parameters


def test_parameters_are_the_sheets():
    first, second = parameter_counts.count()
    assert (first["question"], first["parameters"]) == ("Q1.1", 10_298)
    assert [row["parameters"] for row in first["layers"]] == [608, 0, 9_690, 0]
    assert [row["output"] for row in first["layers"]] == [[24, 24, 8], [11, 11, 8], [10], [10]]
    assert (second["question"], second["parameters"]) == ("Q1.2", 236_310)
    assert all(row["agree"] for network in (first, second) for row in network["layers"])


# Scaling


def points(seconds, D=16, K=None, M=None, softmax=None):
    """Points of one attention, from length to seconds; `softmax` are the seconds of softmax attention."""
    attention = "softmax" if K is None else "taylor"
    return [
        {"attention": attention, "L": L, "D": D, "K": K, "M": M, "seconds": time,
         "cpu_seconds": 2 * time, "bytes": 1e3 * L * L, "plain_bytes": M and 8e5 * L * M, "process_bytes": 1e9,
         "ratio": softmax and [f * time / softmax[L] for f in (0.9, 1, 1.1)]}
        for L, time in seconds.items()
    ]  # fmt: skip


LENGTHS = [2**i for i in range(7, 15)]


SOFTMAX = {L: 1e-9 * L**2 for L in LENGTHS}


def test_exponents_are_slopes_of_logarithms():
    slope, error = scaling_report.exponent([(L, 3e-9 * L**1.7) for L in LENGTHS])
    assert (slope, error) == (pytest.approx(1.7), pytest.approx(0, abs=1e-6))
    assert scaling_report.exponent([(2, 1.0), (4, 2.0)]) == (None, None)
    fit = scaling_report.fit(points({L: 1e-8 * L**2 + (5.0 if L < 1024 else 0.0) for L in LENGTHS}))
    assert fit["time_exponent"] == pytest.approx(2) and fit["memory_exponent"] == pytest.approx(2)
    assert fit == scaling_report.fit(points({L: 9.0 if L == 1056 else 1e-8 * L**2 for L in sorted([*LENGTHS, 1056])}))
    assert (fit["longest"], fit["longest_seconds"]) == (16384, pytest.approx(1e-8 * 2**28))
    assert fit["plain_memory_exponent"] is fit["longest_plain_bytes"] is None


def test_the_standard_error_of_an_exponent_is_that_of_a_library():
    pairs = [(L, 3e-9 * L**1.7 * (1 + 0.1 * (-1) ** i)) for i, L in enumerate(LENGTHS)]
    fitted = linregress([math.log(L) for L, _ in pairs], [math.log(value) for _, value in pairs])
    assert scaling_report.exponent(pairs) == (pytest.approx(fitted.slope), pytest.approx(fitted.stderr))


@pytest.mark.parametrize(
    ("linear", "length", "how", "interval"),
    [
        (lambda L: 1e-6 * L, 1000, "measured", (900, 1100)),
        (lambda L: 1e-8 * L, 128, "at or below the shortest length", (128, 128)),
        (lambda L: 1e-4 * L, 100_000, "extrapolated", (None, None)),
        (lambda L: 1.5e-5 * L, 15_000, "measured", (13_500, None)),
        (lambda L: 1e-8 * L**2, None, "beyond what was measured", (None, None)),
        (lambda L: 1e-6 * L * (9 if L == 2048 else 1), 3000, "measured", (900, 3150)),
    ],
    ids=["within", "before", "after", "at the end", "never", "an outlier"],
)
def test_crossovers_lie_between_what_was_measured(linear, length, how, interval):
    [row] = scaling_report.find_crossovers(points({L: linear(L) for L in LENGTHS}, K=3, M=153, softmax=SOFTMAX))
    assert (row["D"], row["K"], row["M"], row["how"]) == (16, 3, 153, how)
    assert (row["length"], row["low"], row["high"]) == (
        near(length), near(interval[0]), near(interval[1])
    )  # fmt: skip


@pytest.mark.parametrize(
    ("ratios", "following"),
    [
        ({512: 2.0, 1024: 0.5}, 736),
        ({512: 2.0, 1024: 0.5, 736: 1.0}, 864),
        ({512: 0.9, 1024: 1.2, 2048: 0.5}, 1440),
        ({704: 1.1, 768: 0.9}, None),
        ({960: 1.3, 1024: 0.9, 2048: 0.4}, 1056),
        ({960: 1.3, 1024: 0.9, 1056: 1.2, 2048: 0.4}, 1472),
        ({960: 1.3, 1024: 0.9, 1056: 0.9, 2048: 0.4}, None),
        ({960: 1.3, 1024: 0.9}, None),
        ({128: 1.1, 160: 0.9}, None),
        ({512: 2.0, 1024: 1.5}, None),
        ({512: 0.9, 1024: 0.5}, None),
        ({}, None),
    ],
    ids=[
        "an octave",
        "half of it",
        "the last one",
        "close",
        "a power of two",
        "slower after it",
        "faster after it",
        "nothing after it",
        "no multiple between",
        "slower",
        "faster",
        "nothing",
    ],
)
def test_the_next_length_halves_the_interval_in_which_linear_attention_becomes_faster(ratios, following):
    measured = [{"L": L, "ratio": [0.9 * ratio, ratio, 1.1 * ratio]} for L, ratio in ratios.items()]
    assert scaling_report.next_length([*measured, {"L": 8192, "ratio": None}]) == following


def near(value):
    return None if value is None else pytest.approx(value, rel=0.1)


def test_crossovers_need_lengths_in_common():
    assert scaling_report.find_crossovers(points({128: 1.0}, K=3, M=5)) == []
    [row] = scaling_report.find_crossovers(points({128: 2.0}, K=3, M=5, softmax={128: 1.0}))
    assert (row["length"], row["how"], row["low"], row["high"]) == (None, "not measured", None, None)


def test_the_table_has_a_line_for_each_fit_and_crossover():
    of_all = points(SOFTMAX) + points({L: 1e-6 * L for L in LENGTHS}, K=3, M=153, softmax=SOFTMAX)
    fits = [scaling_report.fit(series) for series in scaling_report.by_attention(of_all)]
    summary = {"fits": fits, "crossovers": scaling_report.find_crossovers(of_all)}
    text = scaling_report.markdown(summary)
    assert "| softmax | 16 |  |  | 2.00 ± 0.00 | 2.00 ± 0.00 | 2.00 ± 0.00 |  | 16384 |" in text
    assert "| linear | 16 | 3 | 153 | 1.00 ± 0.00 | 1.00 ± 0.00 | 2.00 ± 0.00 | 1.00 ± 0.00 | 16384 |" in text
    assert "| 16 | 3 | 153 | 1000 (measured) | 900–1100 |" in text


def test_features_of_a_case():
    assert Case("taylor", 128, 16, 3).features == 153 and Case("softmax", 128, 16).features is None


CASES = [Case("softmax", 8, 2), Case("taylor", 8, 2, 3), Case("plain", 8, 2, 3)]


@pytest.fixture
def took(monkeypatch):
    """After `took(seconds)`, the timed call number i, counted from 0, takes `seconds(i)`."""

    def take(seconds):
        numbers = itertools.count()
        monkeypatch.setattr(measure, "_time", lambda call, count, threads: (seconds(next(numbers)), 0.5))

    return take


def test_cases_are_timed_by_turns_until_both_halves_of_the_rounds_agree(took):
    took(lambda number: 2.0 ** (number % 3))
    found = measure._measure_times(CASES, 1, rounds=50)
    assert [row["seconds"] for row in found] == [1.0, 2.0, 4.0]
    assert {row["rounds"] for row in found} == {measure._LEAST_ROUNDS}
    assert "ratio" not in found[0] and found[1]["ratio"] == [2.0] * 3 and found[2]["cpu_seconds"] == 0.5
    took(lambda number: 1.0 + number)
    assert {row["rounds"] for row in measure._measure_times(CASES, 1, rounds=11)} == {11}


@pytest.mark.parametrize("case", CASES)
def test_what_is_measured_is_the_attention_of_the_case(case):
    call = measure._call(case, threads=1)
    assert call().shape == (8, 2)
    wall, cpu = measure._time(call, 2, threads=1)
    assert wall == pytest.approx(cpu, abs=1e-3) and wall > 0
    memory = measure._measure_memory(case, threads=1)
    assert 0 <= memory["bytes"] <= memory["process_bytes"]
