//! What the latest grants give to one principal: looked up once for each version of the grants.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::watch;

use super::{Grants, Principal, Rights, Role, grants::Given};
use crate::model::StorePath;

/// A principal, and the grants. Their names are compared at the first question after the grants have changed.
#[derive(Debug)]
pub(super) struct Granted {
    principal: Principal,
    grants: watch::Receiver<Arc<Grants>>,
    latest: Mutex<Option<Latest>>,
}

/// What a version of the grants gives. It does not keep that version in memory.
#[derive(Debug)]
struct Latest {
    of: Weak<Grants>,
    given: Arc<Given>,
}

impl Granted {
    /// The rights of a principal by the latest grants.
    pub(super) fn new(principal: Principal, grants: watch::Receiver<Arc<Grants>>) -> Self {
        Self { principal, grants, latest: Mutex::default() }
    }

    /// The principal.
    pub(super) fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The grants, of which the latest ones count.
    pub(super) fn grants(&self) -> &watch::Receiver<Arc<Grants>> {
        &self.grants
    }

    /// Whether the latest grants give anything.
    pub(super) fn has_rights(&self) -> bool {
        !self.latest().1.is_empty()
    }

    /// The sum of what the latest grants give.
    pub(super) fn rights(&self) -> Rights {
        let (grants, given) = self.latest();
        grants.rights(&given)
    }

    /// Whether the latest grants give a role at a path.
    pub(super) fn may(&self, role: Role, path: &StorePath) -> bool {
        let (grants, given) = self.latest();
        grants.may(&given, role, path)
    }

    /// The latest grants, and which of them are for the principal.
    fn latest(&self) -> (Arc<Grants>, Arc<Given>) {
        let grants = Arc::clone(&self.grants.borrow());
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let given = match &*latest {
            // The memory of a version is not used again while there is a weak reference to it.
            Some(Latest { of, given }) if of.as_ptr() == Arc::as_ptr(&grants) => Arc::clone(given),
            _ => {
                let given = Arc::new(grants.given(&self.principal));
                let of = Arc::downgrade(&grants);
                *latest = Some(Latest { of, given: Arc::clone(&given) });
                given
            }
        };
        drop(latest);
        (grants, given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(role: &str, path: &str) -> Arc<Grants> {
        let text = format!("[[grant]]\nwho = ['anonymous']\nrole = '{role}'\npaths = ['{path}']\n");
        Arc::new(Grants::parse(text.as_bytes()).expect("grants"))
    }

    #[test]
    fn the_latest_grants_count() {
        let (sender, receiver) = watch::channel(grants("reader", "a"));
        let granted = Granted::new(Principal::named(vec!["anonymous".to_owned()]), receiver);
        let [a, b] = ["a", "b"].map(|path| StorePath::parse(path, "path").expect("a path"));
        let may = |role, path| granted.may(role, path);
        for _ in 0..2 {
            assert!(may(Role::Reader, &a) && !may(Role::Writer, &a) && !may(Role::Reader, &b));
        }
        sender.send_replace(grants("writer", "b"));
        for _ in 0..2 {
            assert!(!may(Role::Reader, &a) && may(Role::Writer, &b));
            assert_eq!(granted.rights().to_string(), "writer b");
        }
        assert!(granted.has_rights());
        sender.send_replace(Arc::default());
        assert!(!granted.has_rights() && !may(Role::Reader, &b));
        assert!(granted.rights().is_empty());
    }
}
