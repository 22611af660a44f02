//! Pages of folders, and the permits of all listings.

use crate::{
    access::{Rights, Role},
    error::Result,
    limits::{LIST_PAGE_DEFAULT, LIST_PAGE_MAX, RECORDS_PAGE_DEFAULT, RECORDS_PAGE_MAX},
    model::{Entry, EntryKind, Listing, Page, StorePath, Totals},
    namespace::{list, sql::Tx},
    store::{Call, Store},
};

impl Store {
    /// A page of at most `size` entries of a folder, or the one file at a path. `token` is [`Listing::next`]
    /// of the previous page, or empty. A `size` of 0 is the default.
    ///
    /// If the caller may not read the folder, but something below it, the page has only the entries that lead there.
    ///
    /// # Errors
    /// `PathNotFound`, `InvalidArgument` for a malformed token, `Timeout`, `Busy` if too many listings wait.
    pub async fn list(
        &self,
        path: &StorePath,
        size: usize,
        token: String,
        call: &Call,
    ) -> Result<Listing> {
        if !call.may(Role::Reader, path) {
            return self.list_leading(path, size, token, call).await;
        }
        let path = path.clone();
        self.read_listing(call, move |tx| list::list(tx, &path, size, &token)).await
    }

    /// A page of the entries that lead to what the caller may read. The token of the next page is the name of an entry,
    /// so it must be one that the caller may see: see [`visible`].
    async fn list_leading(
        &self,
        path: &StorePath,
        size: usize,
        mut token: String,
        call: &Call,
    ) -> Result<Listing> {
        let size = if size == 0 { LIST_PAGE_DEFAULT } else { size.min(LIST_PAGE_MAX) };
        let rights = call.caller().rights();
        let mut items = Vec::new();
        loop {
            let at = path.clone();
            let read = move |tx: &mut Tx<'_>| list::list(tx, &at, LIST_PAGE_MAX, &token);
            let page = self.read_listing(call, read).await?;
            let is_full = !items.is_empty();
            for entry in page.items {
                let Some((name, entry)) = leading(path, entry, &rights) else { continue };
                if is_full || items.len() == size {
                    return Ok(Listing { items, next: Some(name), ..Listing::partial() });
                }
                items.push(entry);
            }
            match page.next {
                Some(next) => token = next,
                None => return Ok(Listing { items, ..Listing::partial() }),
            }
        }
    }

    /// Reads one page of a listing, with a permit. Peers share the permits, so that the listings of one peer do not
    /// block others.
    ///
    /// # Errors
    /// `Timeout`; `Busy` after [`LISTING_WAIT`](crate::limits::LISTING_WAIT); those of the job.
    ///
    /// # Cancel safety
    /// Can be dropped. A job that has begun runs to its end, and holds the permit until then.
    pub(super) async fn read_listing<T: Send + 'static>(
        &self,
        call: &Call,
        job: impl FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let permit = call.until(self.0.budgets.listings.acquire(call.peer(), 1)).await?;
        let job = move |tx: &mut Tx<'_>| {
            let _permit = permit;
            job(tx)
        };
        self.0.engine.read(call.deadline(), job).await
    }
}

/// A page of the items that a caller may see, of a listing in pages of `size`: those of the first page of the listing
/// that has some, so that the page has no more bytes than that. Reads on until the next such item, of which `token_of`
/// makes the token of the next page.
pub(super) async fn visible<T, F>(
    mut from: String,
    size: usize,
    list: impl Fn(String) -> F,
    (is_seen, token_of): (impl Fn(&T) -> bool, impl Fn(&T) -> String),
) -> Result<Page<T>>
where
    F: Future<Output = Result<Page<T>>>,
{
    let size = if size == 0 { RECORDS_PAGE_DEFAULT } else { size.min(RECORDS_PAGE_MAX) };
    let mut items = Vec::new();
    loop {
        let page = list(from).await?;
        let is_full = !items.is_empty();
        for item in page.items.into_iter().filter(&is_seen) {
            if is_full || items.len() == size {
                return Ok(Page { items, next: Some(token_of(&item)) });
            }
            items.push(item);
        }
        match page.next {
            Some(next) => from = next,
            None => return Ok(Page { items, next: None }),
        }
    }
}

/// An entry of a folder that the caller may not read, with its name, if it leads to what the caller may read. The
/// totals of an entry above that are zero, since they are those of other files as well.
fn leading(folder: &StorePath, entry: Entry, rights: &Rights) -> Option<(String, Entry)> {
    let name = entry.path.names().next_back()?.to_owned();
    if !rights.leads(folder, &name) {
        return None;
    }
    let may_read = rights.may(Role::Reader, &entry.path);
    // A file leads nowhere.
    if !may_read && entry.kind != EntryKind::Folder {
        return None;
    }
    let totals = if may_read { entry.totals } else { Totals::default() };
    Some((name, Entry { totals, ..entry }))
}
