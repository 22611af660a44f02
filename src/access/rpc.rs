//! The rpcs, and what each needs.

use strum::{EnumString, IntoStaticStr};

use crate::access::Role;

/// An rpc of `imagestore.v1.ImageStore`, named as there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumString, IntoStaticStr)]
#[allow(missing_docs, reason = "the rpcs are described in the proto")]
pub enum Rpc {
    Copy,
    GetOperation,
    ListOperations,
    WatchOperation,
    WatchOperations,
    CancelOperation,
    List,
    Stat,
    Upload,
    Download,
    DownloadPackage,
    Delete,
    UploadChunk,
    GetUploadSession,
    ListUploadSessions,
    CommitUploadSession,
    DeleteUploadSession,
    GetStoreInfo,
    Check,
    /// `Check` with `repair`, which needs more than one without.
    Repair,
    Backup,
    Restore,
    GetCaller,
    CreateToken,
    ListTokens,
    RotateToken,
    RevokeToken,
    CreateLink,
    RotateLinkKey,
}

/// What a caller needs for an rpc.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// Nothing but an identity.
    Identity,
    /// A role at each of the paths of the call, in order.
    Paths(&'static [Role]),
    /// A role at the root.
    Root(Role),
    /// The role of a reader at the path, or at a path below it. The store leaves out what the caller may not read.
    Folder,
    /// Any right. The store looks at the paths, which only it knows, and leaves out or does not find what the caller
    /// may not see.
    Stored,
}

impl Rpc {
    /// Whether each call is in the audit log: what changes something, takes a copy of all, or concerns tokens.
    pub const fn is_audited(self) -> bool {
        match self {
            Self::Copy
            | Self::CancelOperation
            | Self::Upload
            | Self::DownloadPackage
            | Self::Delete
            | Self::UploadChunk
            | Self::CommitUploadSession
            | Self::DeleteUploadSession
            | Self::Repair
            | Self::Backup
            | Self::Restore
            | Self::CreateToken
            | Self::ListTokens
            | Self::RotateToken
            | Self::RevokeToken
            | Self::CreateLink
            | Self::RotateLinkKey => true,
            Self::GetOperation
            | Self::ListOperations
            | Self::WatchOperation
            | Self::WatchOperations
            | Self::List
            | Self::Stat
            | Self::Download
            | Self::GetUploadSession
            | Self::ListUploadSessions
            | Self::GetStoreInfo
            | Self::Check
            | Self::GetCaller => false,
        }
    }

    /// Whether a call whose outcome is not known can be made again, because the second one changes nothing: it reads, or
    /// it has the id of its operation. The request of each of them is one message.
    pub const fn is_repeatable(self) -> bool {
        match self {
            Self::Copy
            | Self::GetOperation
            | Self::ListOperations
            | Self::WatchOperation
            | Self::WatchOperations
            | Self::List
            | Self::Stat
            | Self::Download
            | Self::DownloadPackage
            | Self::GetUploadSession
            | Self::ListUploadSessions
            | Self::GetStoreInfo
            | Self::GetCaller
            | Self::ListTokens
            | Self::CreateLink => true,
            // The second response would tell what the second call has done, not that the first one has done it.
            Self::CancelOperation
            | Self::Upload
            | Self::Delete
            | Self::UploadChunk
            | Self::CommitUploadSession
            | Self::DeleteUploadSession
            // By its path it is not known whether it repairs.
            | Self::Check
            | Self::Repair
            | Self::Backup
            | Self::Restore
            | Self::CreateToken
            | Self::RotateToken
            | Self::RevokeToken
            | Self::RotateLinkKey => false,
        }
    }

    /// What a caller needs.
    pub(super) const fn needs(self) -> Needs {
        use Role::{Admin, Reader, Writer};
        match self {
            Self::Stat | Self::Download | Self::DownloadPackage | Self::CreateLink => {
                Needs::Paths(&[Reader])
            }
            Self::Upload | Self::UploadChunk | Self::Delete => Needs::Paths(&[Writer]),
            Self::Copy => Needs::Paths(&[Reader, Writer]),
            Self::List => Needs::Folder,
            Self::GetOperation
            | Self::ListOperations
            | Self::WatchOperation
            | Self::WatchOperations
            | Self::CancelOperation
            | Self::GetUploadSession
            | Self::ListUploadSessions
            | Self::CommitUploadSession
            | Self::DeleteUploadSession
            | Self::CreateToken
            | Self::ListTokens
            | Self::RotateToken
            | Self::RevokeToken => Needs::Stored,
            Self::GetCaller => Needs::Identity,
            Self::GetStoreInfo => Needs::Root(Role::Monitor),
            Self::Backup | Self::Check => Needs::Root(Reader),
            Self::Restore | Self::Repair | Self::RotateLinkKey => Needs::Root(Admin),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_repairs_has_a_name_in_the_audit_log() {
        assert_eq!(<&str>::from(Rpc::Check), "Check");
        assert_eq!(<&str>::from(Rpc::Repair), "Repair");
    }
}
