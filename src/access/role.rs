//! The roles that a grant gives.

use strum::{Display, EnumString, IntoStaticStr, VariantArray};

use super::shown;

/// What a grant allows at its paths. Each role includes the ones before it; the order is that of the roles.
///
/// Its text is the name in lower case.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Display,
    EnumString,
    IntoStaticStr,
    VariantArray,
)]
#[strum(serialize_all = "lowercase")]
pub enum Role {
    /// Reads the numbers of the server: its totals and metrics.
    Monitor,
    /// Reads files and folders.
    Reader,
    /// Writes and deletes files and folders.
    Writer,
    /// Administers the store: its repair, its restore and its tokens.
    Admin,
}

impl Role {
    /// Every role, in order.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// Parses the name of a role, with the case of its letters.
    ///
    /// # Errors
    /// The reason, which quotes the text and lists the roles.
    pub fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| {
            let names: Vec<&str> = Self::ALL.iter().map(Into::into).collect();
            format!("role \"{}\" is unknown; the roles are {}", shown(text), names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_ordered_and_have_names() {
        let names = ["monitor", "reader", "writer", "admin"];
        assert_eq!(Role::ALL.iter().map(ToString::to_string).collect::<Vec<_>>(), names);
        assert!(Role::ALL.is_sorted());
        for (&role, name) in Role::ALL.iter().zip(names) {
            assert_eq!(Role::parse(name), Ok(role));
            assert_eq!(<&str>::from(role), name);
        }
    }

    #[test]
    fn an_unknown_role_is_refused() {
        for text in ["", "Writer", " writer", "owner"] {
            let reason =
                format!("role \"{text}\" is unknown; the roles are monitor, reader, writer, admin");
            assert_eq!(Role::parse(text), Err(reason));
        }
    }
}
