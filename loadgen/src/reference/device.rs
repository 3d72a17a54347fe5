//! The device alone: O_DIRECT writes with DSYNC into a pre-written file, through the same probe
//! that `ringlog tune` uses.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use ringlog_storage::log::FlushMethod;
use ringlog_tuning::device::{Device, Shape, grid};
use serde::Serialize;

/// The file that is written over and over.
const FILE_BYTES: u64 = 512 << 20;

/// The device and its best shape.
pub struct DeviceReference {
    device: Device,
    best: Shape,
}

/// A slice of device writes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DeviceSlice {
    /// Bandwidth.
    pub mb_per_second: f64,
    /// Each operation.
    #[serde(skip)]
    pub latencies_ns: Vec<u64>,
}

impl DeviceReference {
    /// Pre-writes the file and finds the best shape of the grid, each tried twice for `each`, in
    /// turn.
    pub fn open(dir: &Path, each: Duration, allow_buffered: bool) -> anyhow::Result<Self> {
        let mut device = Device::open(dir, FILE_BYTES, allow_buffered)
            .with_context(|| format!("making a file for the device probe in {}", dir.display()))?;
        let shapes = grid();
        ensure!(!shapes.is_empty(), "the probe's grid has no shape");
        let mut rates = vec![0.0; shapes.len()];
        for _ in 0..2 {
            for (shape, rate) in shapes.iter().zip(&mut rates) {
                let sample = device.run(*shape, each)?;
                *rate += sample.bytes as f64 / sample.elapsed.as_secs_f64().max(1e-9);
            }
        }
        let best = (0..shapes.len()).max_by(|one, other| rates[*one].total_cmp(&rates[*other]));
        let best = shapes[best.context("the grid has a best shape")?];
        Ok(DeviceReference { device, best })
    }

    /// The filesystem that was measured.
    #[must_use]
    pub fn filesystem(&self) -> String {
        self.device.report().filesystem.clone()
    }

    /// The best shape, in words.
    #[must_use]
    pub fn best_in_words(&self) -> String {
        format!(
            "{} KiB blocks, depth {}, {:?}",
            self.best.block_bytes >> 10,
            self.best.depth,
            self.best.flush
        )
    }

    /// The best shape for so long.
    pub fn slice(&mut self, duration: Duration) -> anyhow::Result<DeviceSlice> {
        let sample = self.device.run(self.best, duration)?;
        Ok(DeviceSlice {
            mb_per_second: sample.bytes as f64 / 1e6 / sample.elapsed.as_secs_f64().max(1e-9),
            latencies_ns: sample.latencies_ns,
        })
    }

    /// One durable write of `block_bytes` after the other, so many: latencies in nanoseconds.
    pub fn one_at_a_time(
        &mut self,
        block_bytes: usize,
        operations: usize,
    ) -> anyhow::Result<Vec<u64>> {
        let shape = Shape {
            block_bytes,
            depth: 1,
            flush: FlushMethod::DsyncEachWrite,
        };
        Ok(self.device.run_operations(shape, operations)?.latencies_ns)
    }
}
