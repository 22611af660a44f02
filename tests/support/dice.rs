//! Random numbers for tests: a generator, and the seed and the length of this run from the environment.

#[expect(clippy::disallowed_methods, reason = "how long and from which seed is said at the run")]
fn environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

/// Whether random tests of this run are longer: `TEST_LONG=1`.
pub(crate) fn is_long() -> bool {
    environment("TEST_LONG").is_some_and(|value| value > 0)
}

/// The seed of this run: `TEST_SEED`, or a new one.
pub(crate) fn seed() -> u64 {
    environment("TEST_SEED").unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0)
}

/// A pseudorandom generator (splitmix64); the field is its state, at first the seed.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// A random number from 0 to `sides - 1`.
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % sides as u64).expect("it is below a usize")
    }
}
