//! The shape of the simulated machine.

/// Shape of the simulated machine.
#[derive(Clone, Debug)]
pub struct SimOptions {
    /// What the disk writes as a whole or not at all.
    pub sector_bytes: usize,
    /// What [`crate::io::Geometry::block_bytes`] says.
    pub block_bytes: usize,
    /// Arena of each handle's pool.
    pub arena_bytes: usize,
    /// Most memory each handle's pool hands out.
    pub memory_limit_bytes: usize,
    /// Wall clock at the start, milliseconds since the Unix epoch.
    pub wall_ms: i64,
}

impl Default for SimOptions {
    fn default() -> SimOptions {
        SimOptions {
            sector_bytes: 512,
            block_bytes: 4096,
            arena_bytes: 0,
            memory_limit_bytes: 256 << 20,
            wall_ms: 1_700_000_000_000,
        }
    }
}
