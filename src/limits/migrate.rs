//! The bounds of a migration. The pages, the parts in flight and the memory of its queues are those of backups and
//! restores.

use std::time::Duration;

/// How many times a migration reads a running source: the first time takes long, and each next one moves what has changed
/// meanwhile.
pub const MIGRATE_PASSES_MAX: u32 = 3;
/// How long a migration keeps what nothing refers to: longer than any migration, so that what a migration
/// that was killed has moved is not moved again. The first server that serves the target reclaims the rest.
pub const MIGRATE_GRACE: Duration = Duration::from_hours(100 * 365 * 24);
