//! Uploads at once: those that are acknowledged end as if they had come one by one, in the order of their versions,
//! and one that is refused is refused at some point of that order.

use futures::future::join_all;
use imagestore::{
    error::{Error, Kind},
    model::EntryKind,
    store::UploadSpec,
};

use crate::{
    harness::path,
    machine::{Machine, send},
    step::contents,
};

impl Machine {
    pub(crate) async fn upload_together(&mut self, files: &[(String, usize)]) {
        let uploads = files.iter().map(|(at, content)| {
            let bytes = contents()[*content].clone();
            let size = Some(bytes.len() as u64);
            send(&self.fixture, UploadSpec { size, ..UploadSpec::new(path(at)) }, bytes)
        });
        let (mut stored, mut refused) = (Vec::new(), Vec::new());
        for (result, (at, content)) in join_all(uploads).await.into_iter().zip(files) {
            match result.as_ref().map_err(Error::kind) {
                Ok(stat) => {
                    let EntryKind::File { version, .. } = &stat.entry.kind else { panic!("{at}") };
                    stored.push((version.number, at, *content, stat.entry.kind.clone()));
                }
                Err(kind) => refused.push((at, kind, false)),
            }
        }
        stored.sort_by_key(|(number, ..)| *number);
        let mut stored = stored.into_iter();
        loop {
            for (at, kind, is_right) in &mut refused {
                *is_right |= self.plain.check_put(at) == Err(*kind);
            }
            let Some((_, at, content, kind)) = stored.next() else { break };
            assert_eq!(self.plain.check_put(at), Ok(()), "upload of {at}");
            self.put(at, contents()[content].clone(), &kind);
        }
        for (at, kind, is_right) in refused {
            assert!(is_right && kind == Kind::AlreadyExists, "upload of {at}: {kind:?}");
        }
    }
}
