//! The budgets of the store: concurrent work, and memory for its bytes. The head of `server/flow` lists the
//! budgets of the server; [`crate::budget`] describes how peers share a budget.
//!
//! | what | bound | beyond it |
//! |---|---|---|
//! | uploads | [`UPLOADS_MAX`] | waits for [`UPLOAD_WAIT`], then busy |
//! | bytes of uploads in memory | [`UPLOAD_BUFFER_POOL_BYTES`] | waits for [`UPLOAD_POOL_WAIT`], then cuts smaller |
//! | archives that are unpacked | [`UNPACKS_MAX`] | waits; busy beyond [`UNPACKS_WAITING_MAX`] |
//! | downloads | [`DOWNLOADS_MAX`] | waits for [`DOWNLOAD_WAIT`], then busy |
//! | bytes of downloads in memory | [`DOWNLOAD_POOL_BYTES`] | waits |
//! | bytes of packages in memory | [`PACKAGE_POOL_BYTES`] | waits for [`DOWNLOAD_WAIT`], then busy |
//! | pages of listings that are read | [`LISTINGS_MAX`] | waits for [`LISTING_WAIT`], then busy |
//! | filtered copies that search or build | [`FILTERS_MAX`] | waits |
//! | verified copies that read | [`VERIFIES_MAX`] | waits |
//! | watchers | [`WATCHERS_MAX`] | busy |
//! | backups | [`BACKUPS_MAX`] | busy |
//! | restores, checks | one of each | busy |

use std::time::Duration;

use crate::{
    budget::Budget,
    limits::{
        BACKUPS_MAX, DOWNLOAD_POOL_BYTES, DOWNLOAD_WAIT, DOWNLOADS_MAX, DOWNLOADS_WAITING_MAX,
        FILTERS_MAX, LISTING_WAIT, LISTINGS_MAX, LISTINGS_WAITING_MAX, PACKAGE_POOL_BYTES,
        UNPACKS_MAX, UNPACKS_WAITING_MAX, UPLOAD_BUFFER_POOL_BYTES, UPLOAD_POOL_WAIT, UPLOAD_WAIT,
        UPLOADS_MAX, UPLOADS_WAITING_MAX, VERIFIES_MAX, WATCHERS_MAX,
    },
};

/// The budgets of a store.
pub(super) struct Budgets {
    pub(super) uploads: Budget,
    pub(super) upload_pool: Budget,
    pub(super) unpacks: Budget,
    pub(super) downloads: Budget,
    pub(super) download_pool: Budget,
    pub(super) package_pool: Budget,
    pub(super) listings: Budget,
    pub(super) filters: Budget,
    pub(super) verifies: Budget,
    pub(super) watchers: Budget,
    pub(super) backups: Budget,
    pub(super) restores: Budget,
    pub(super) checks: Budget,
}

impl Budgets {
    /// Makes the budgets of a store.
    pub(super) fn new() -> Self {
        // A copy or download that has begun waits without a bound, but ahead of the queue of a peer above its share.
        let patient = |what, most| Budget::new(what, most).with_queue(usize::MAX, Duration::MAX);
        Self {
            uploads: Budget::new("uploads", UPLOADS_MAX)
                .with_queue(UPLOADS_WAITING_MAX, UPLOAD_WAIT),
            upload_pool: Budget::new("bytes of uploads", UPLOAD_BUFFER_POOL_BYTES)
                .with_queue(UPLOADS_MAX, UPLOAD_POOL_WAIT),
            unpacks: Budget::new("archives", UNPACKS_MAX)
                .with_queue(UNPACKS_WAITING_MAX, Duration::MAX),
            downloads: Budget::new("downloads", DOWNLOADS_MAX)
                .with_queue(DOWNLOADS_WAITING_MAX, DOWNLOAD_WAIT),
            download_pool: patient("bytes of downloads", DOWNLOAD_POOL_BYTES),
            package_pool: Budget::new("bytes of packages", PACKAGE_POOL_BYTES)
                .with_queue(DOWNLOADS_WAITING_MAX, DOWNLOAD_WAIT),
            listings: Budget::new("listings", LISTINGS_MAX)
                .with_queue(LISTINGS_WAITING_MAX, LISTING_WAIT),
            filters: patient("filtered copies", FILTERS_MAX),
            verifies: patient("verified copies", VERIFIES_MAX),
            watchers: Budget::new("watchers", WATCHERS_MAX),
            backups: Budget::new("backups", BACKUPS_MAX),
            restores: Budget::new("restores", 1),
            checks: Budget::new("checks", 1),
        }
    }
}
