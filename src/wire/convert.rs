//! Conversions between messages and plain values that several interfaces share.

use prost_types::Timestamp;

/// A timestamp from a time in microseconds since 1970.
pub fn timestamp(micros: i64) -> Timestamp {
    let nanos = micros.rem_euclid(1_000_000) * 1_000;
    Timestamp { seconds: micros.div_euclid(1_000_000), nanos: i32::try_from(nanos).unwrap_or(0) }
}

/// The time of a timestamp in microseconds since 1970, clamped to the range of `i64`.
pub fn micros(timestamp: &Timestamp) -> i64 {
    timestamp.seconds.saturating_mul(1_000_000).saturating_add(i64::from(timestamp.nanos) / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_round_trip() {
        for time in [-1, 0, 1, -1_000_001, 1_700_000_000_123_456] {
            assert_eq!(micros(&timestamp(time)), time);
        }
    }
}
