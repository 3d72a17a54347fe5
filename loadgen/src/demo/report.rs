//! The demo's figures, for programs and in words.

use std::fmt::Write;

use serde::Serialize;

use crate::demo::flat_out::{FlatOut, Limit};
use crate::demo::half_rate::HalfRate;
use crate::demo::one_at_a_time::OneAtATime;
use crate::demo::place::Machine;
use crate::latency::median;
use crate::reference::ratio::Ratio;

/// All figures.
#[derive(Clone, Debug, Serialize)]
pub struct DemoReport {
    /// Where.
    pub machine: Machine,
    /// Cores of the node.
    pub node_cores: usize,
    /// Threads of the generator.
    pub generator_threads: usize,
    /// Connections and requests in flight on each.
    pub window: (usize, usize),
    /// What an acknowledgement means here.
    pub durability: &'static str,
    /// The device's best shape.
    pub device_shape: String,
    /// Flat out, by batch size.
    pub flat_out: Vec<FlatOut>,
    /// At half the rate.
    pub half_rate: HalfRate,
    /// One event at a time.
    pub one_at_a_time: OneAtATime,
    /// Events read back and found once, in order, unaltered.
    pub verified_events: u64,
    /// Faults, in words.
    pub faults: Vec<String>,
    /// How long it all took.
    pub seconds: f64,
}

impl DemoReport {
    /// Whether nothing acknowledged was lost, doubled, reordered or altered.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.faults.is_empty()
    }

    /// In words.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).expect("writing to a string");
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "\nmachine     {}", self.machine.text())?;
        writeln!(
            out,
            "node        {} of {} CPUs; generator {} threads, {} connections, {} in flight on each",
            self.node_cores,
            self.machine.cpus,
            self.generator_threads,
            self.window.0,
            self.window.1
        )?;
        writeln!(out, "durability  {}", self.durability)?;
        writeln!(out, "device      best of the grid: {}", self.device_shape)?;
        for phase in &self.flat_out {
            self.write_flat_out(out, phase)?;
        }
        self.write_half_rate(out)?;
        self.write_one_at_a_time(out)?;
        let verdict = if self.is_clean() {
            "verified"
        } else {
            "FAULTS FOUND"
        };
        writeln!(
            out,
            "\n{verdict}: {} acknowledged events read back once, in order, unaltered ({:.0} s in all)",
            self.verified_events, self.seconds
        )?;
        for fault in &self.faults {
            writeln!(out, "  {fault}")?;
        }
        Ok(())
    }

    fn write_flat_out(&self, out: &mut String, phase: &FlatOut) -> std::fmt::Result {
        let (limit, _) = phase.limit();
        let limit = match limit {
            Limit::Device => "device",
            Limit::Ceiling => "ceiling",
        };
        writeln!(
            out,
            "\nflat out, {}-byte values in batches of {} KiB ({} slices each)",
            phase.record_bytes,
            phase.batch_bytes.div_ceil(1024),
            phase.load_mb_per_second.len()
        )?;
        writeln!(
            out,
            "  load      {:>7.0} MB/s  {:>5.2} million events/s   {} of the physical limit ({limit})",
            median(&phase.load_mb_per_second),
            median(&phase.load_events_per_second) / 1e6,
            phase.ratio().text(),
        )?;
        let reference = |out: &mut String, name: &str, figures: &[f64]| {
            let ratio = Ratio::paired(&phase.load_mb_per_second, figures);
            writeln!(
                out,
                "  {name:9} {:>7.0} MB/s  load is {} of it",
                median(figures),
                ratio.text()
            )
        };
        reference(out, "device", &phase.device_mb_per_second)?;
        reference(out, "ceiling", &phase.ceiling_mb_per_second)?;
        for other in &phase.against {
            reference(out, "against", &other.mb_per_second)?;
            writeln!(out, "            {}", other.command)?;
        }
        let millions = (phase.events as f64 / 1e6).max(1e-9);
        writeln!(
            out,
            "  CPU       {:.3} s per million events in the node, {:.3} s in the generator",
            phase.node_cpu_seconds / millions,
            phase.generator_cpu_seconds / millions
        )?;
        let bound = phase.bound(self.machine.cpus, self.node_cores);
        writeln!(
            out,
            "  bound by  {} (node {:.0} % of its cores, node and generator {:.0} % of all CPUs, \
             disk {:.0} %, network {:.0} %)",
            bound.name(),
            bound.node_cpu * 100.0,
            bound.cpu * 100.0,
            bound.disk * 100.0,
            bound.network * 100.0
        )?;
        let counters = &phase.counters;
        writeln!(
            out,
            "  space     {:.1} GB into recycled, {:.1} GB into pre-written, {:.1} GB into unwritten; \
             {:.0} blocks of {:.0} KiB on average",
            counters.recycled_bytes / 1e9,
            counters.prewritten_bytes / 1e9,
            counters.unwritten_bytes / 1e9,
            counters.blocks,
            counters.block_bytes / counters.blocks.max(1.0) / 1024.0
        )
    }

    fn write_half_rate(&self, out: &mut String) -> std::fmt::Result {
        let phase = &self.half_rate;
        writeln!(
            out,
            "\nat half that rate ({:.2} million events/s, open loop, batches of {} KiB){}",
            phase.rate / 1e6,
            phase.batch_bytes.div_ceil(1024),
            if phase.inconclusive {
                "  INCONCLUSIVE: the device was restless"
            } else {
                ""
            }
        )?;
        writeln!(
            out,
            "  load      p50 {:>6.0} µs  p99 {:>6.0} µs  p99.9 {:>6.0} µs   p99 is {:.1} × the device's{}",
            phase.load.p50_us,
            phase.load.p99_us,
            phase.load.p999_us,
            phase.load.p99_us / phase.device.p99_us.max(1e-9),
            if phase.rate_was_kept() {
                ""
            } else {
                "; the rate was not kept"
            }
        )?;
        writeln!(
            out,
            "  device    p50 {:>6.0} µs  p99 {:>6.0} µs  p99.9 {:>6.0} µs   one durable 64 KiB write at a time",
            phase.device.p50_us, phase.device.p99_us, phase.device.p999_us
        )
    }

    fn write_one_at_a_time(&self, out: &mut String) -> std::fmt::Result {
        let phase = &self.one_at_a_time;
        writeln!(
            out,
            "\none durable event at a time ({} slices of 100 operations each)",
            phase.pairs
        )?;
        writeln!(
            out,
            "  event     p50 {:>6.0} µs  p99 {:>6.0} µs",
            phase.event_p50_us, phase.event_p99_us
        )?;
        writeln!(
            out,
            "  device    p50 {:>6.0} µs  p99 {:>6.0} µs   a durable 4 KiB write",
            phase.device_p50_us, phase.device_p99_us
        )?;
        writeln!(
            out,
            "  loopback  p50 {:>6.0} µs   a round trip",
            phase.loopback_p50_us
        )?;
        writeln!(
            out,
            "  sum       p50 {:>6.0} µs   the event is {:+.0} µs beyond ({:+.0} to {:+.0}, by pairs)",
            phase.device_p50_us + phase.loopback_p50_us,
            phase.above_sum_us,
            phase.above_sum_range_us.0,
            phase.above_sum_range_us.1
        )
    }
}
