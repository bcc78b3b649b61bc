"""Speed on a processor: what is measured of it, and what the estimate makes of that."""

import pytest
import torch

from metagene_doctor.memory import Workload
from metagene_doctor.memory.costs.throughput import throughput
from metagene_doctor.memory.measured.host_rates import HostRates, measure
from metagene_train.config import RunConfig, TrainingConfig

BASE = {
    "name": "cpu",
    "title": "CPU",
    "marketed_gb": 0,
    "visible_mib": 1000,
    "visible": "reported",
    "bf16_tflops": 0.2,
    "fp32_tflops": 0.2,
    "bandwidth_gbs": 40,
    "compute_capability": "0.0",
    "bf16": False,
    "source": "measured",
    "launch_s": 15e-6,
    "draw_s": 6e-9,
    "strain": 1.0,
}


def seconds(rates, micro_batch: int, tokens: float = 8, accumulation: int = 1) -> float:
    config = RunConfig(
        training=TrainingConfig(batch_size=micro_batch, grad_accum_steps=accumulation, precision="32")
    )
    workload = Workload.from_config(config, num_labels=9)
    time = throughput(workload, rates, accumulation=accumulation, padded_tokens=tokens)
    assert time.reads_per_s.low < time.reads_per_s.expected < time.reads_per_s.high
    return time.seconds_per_step.expected


def test_a_processor_is_measured_and_its_random_numbers_are_left_as_they_were():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    rates = measure("CPU (some cores)", 1000)
    assert torch.equal(torch.rand(3), expected)
    assert rates.title == "CPU (some cores)"
    # From a microcontroller's to a large server's.
    assert 1e-4 < rates.fp32_tflops < 100 and 0.1 < rates.bandwidth_gbs < 10_000
    assert 1e-7 < rates.launch_s < 1e-2 and 1e-11 < rates.draw_s < 1e-6
    assert rates.strain >= 1


def test_a_processor_launches_and_computes_one_after_the_other():
    """On a card the shorter of the two is hidden behind the longer one; here all costs add up."""
    slow, free = HostRates(**BASE), HostRates(**BASE | {"launch_s": 0.0})
    launching = seconds(slow, 1) - seconds(free, 1)
    assert launching > 0.01
    assert seconds(slow, 32) - seconds(free, 32) == pytest.approx(launching)
    # Of an optimizer step, each of its micro-batches.
    more = seconds(slow, 1, accumulation=4) - seconds(free, 1, accumulation=4)
    assert 3 * launching < more < 4.1 * launching


def test_dropout_takes_time_on_a_processor_by_the_numbers_it_draws():
    drawing, free = HostRates(**BASE), HostRates(**BASE | {"draw_s": 0.0})
    one, two = (seconds(drawing, reads) - seconds(free, reads) for reads in (4, 8))
    assert one > 0 and two == pytest.approx(2 * one)


def test_what_ran_beside_the_measurement_widens_the_range_below():
    config = RunConfig(training=TrainingConfig(batch_size=8, precision="32"))
    workload = Workload.from_config(config, num_labels=9)
    idle, busy = (
        throughput(workload, HostRates(**BASE | {"strain": strain}), accumulation=1, padded_tokens=40)
        for strain in (1.0, 3.0)
    )
    assert busy.reads_per_s.expected == idle.reads_per_s.expected
    assert busy.reads_per_s.high == idle.reads_per_s.high
    assert busy.reads_per_s.low == pytest.approx(idle.reads_per_s.low / 3, rel=0.01)
