//! Folders that survive a power failure.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

/// Makes a folder and its missing parents, and syncs every folder that was made or got an entry.
///
/// # Errors
///
/// Those of the file system.
pub fn create_dir_all(dir: &Path) -> io::Result<()> {
    let dir = std::path::absolute(dir)?;
    let old = dir.ancestors().find(|above| above.is_dir()).map(Path::to_owned);
    fs::create_dir_all(&dir)?;
    for changed in dir.ancestors() {
        sync_dir(changed)?;
        if Some(changed) == old.as_deref() {
            break;
        }
    }
    Ok(())
}

/// Syncs the entries of a folder.
///
/// # Errors
///
/// Those of the file system.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_made_with_its_parents_and_again() {
        let temp = tempfile::tempdir().expect("a folder");
        let dir = temp.path().join("a/b/c");
        create_dir_all(&dir).expect("made");
        assert!(dir.is_dir());
        create_dir_all(&dir).expect("there already");
    }

    #[test]
    fn a_file_in_the_way_is_an_error() {
        let temp = tempfile::tempdir().expect("a folder");
        let file = temp.path().join("a");
        fs::write(&file, b"").expect("a file");
        assert!(create_dir_all(&file).is_err());
        assert!(create_dir_all(&file.join("b")).is_err());
    }
}
