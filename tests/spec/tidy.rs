//! The rules of the source that the compiler does not check: imports, the head and length of files, log messages.

#![allow(clippy::string_slice, reason = "where to cut comes from a search in the same text")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

const LINES_MAX: usize = 400;

/// Which modules each module may import; `server` wires all modules, so it may import all.
const IMPORTS: [(&str, &[&str]); 18] = [
    ("access", &["budget", "error", "limits", "model", "secret"]),
    ("secret", &[]),
    ("crash", &[]),
    ("offload", &["limits"]),
    ("error", &[]),
    ("limits", &[]),
    ("model", &["error", "limits"]),
    ("tls", &[]),
    ("namespace", &["crash", "error", "limits", "model", "tls"]),
    ("budget", &["error", "limits"]),
    ("blob", &["budget", "crash", "error", "limits", "model", "tls"]),
    (
        "store",
        &["access", "budget", "error", "limits", "model", "namespace", "blob", "offload", "secret"],
    ),
    ("wire", &["error", "limits", "offload"]),
    ("grpc", &["access", "budget", "error", "limits", "model", "offload", "store", "wire"]),
    ("rest", &["access", "budget", "error", "limits", "offload", "wire"]),
    ("web", &["limits"]),
    ("client", &["error", "limits", "secret", "tls", "wire"]),
    ("cli", &["client", "error", "limits", "model", "secret", "wire"]),
];

/// The only modules that may name each crate.
const CRATES: [(&str, &[&str]); 21] = [
    ("tonic", &["wire", "grpc", "rest", "client", "server"]),
    ("axum", &["rest", "web", "server"]),
    ("prost", &["wire", "grpc", "rest", "client", "cli"]),
    ("prost_reflect", &["cli"]),
    ("prost_types", &["wire", "grpc", "rest", "client", "cli"]),
    ("serde", &["access", "rest", "cli", "server"]),
    ("serde_json", &["rest", "cli", "server"]),
    ("flate2", &["store"]),
    ("object_store", &["blob"]),
    // A feature of it is needed, see Cargo.toml.
    ("reqwest", &[]),
    ("rusqlite", &["namespace"]),
    ("ring", &["access", "server", "tls"]),
    ("rustls_native_certs", &["tls"]),
    ("tokio_postgres", &["namespace"]),
    ("tokio_postgres_rustls", &["namespace"]),
    ("roaring", &["namespace"]),
    ("rustls", &["namespace", "server", "tls"]),
    ("toml", &["access", "cli"]),
    ("tokio_rustls", &["server"]),
    ("x509_cert", &["server"]),
    ("zip", &["store"]),
];

/// A Rust file of the package.
pub(crate) struct File {
    pub(crate) path: PathBuf,
    text: String,
}

impl File {
    /// The first name below `src`: the module that the rules apply to.
    fn module(&self) -> &str {
        let path = self.path.strip_prefix("src").expect("below src");
        let first = path.iter().next().expect("a name").to_str().expect("text");
        first.strip_suffix(".rs").unwrap_or(first)
    }

    pub(crate) fn is_test(&self) -> bool {
        self.path.iter().any(|name| name.to_string_lossy().contains("tests"))
    }

    /// The code of the program: without comments, and without the tests at the end.
    pub(crate) fn code(&self) -> String {
        let own = self.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let line = |line: &str| match line.find("//") {
            Some(at) if line[..at].matches('"').count().is_multiple_of(2) => line[..at].to_owned(),
            _ => line.to_owned(),
        };
        own.lines().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// The folder of the package.
fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files below a folder.
pub(crate) fn files(folder: &str) -> Vec<File> {
    let mut files = Vec::new();
    let mut folders = vec![package().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a file");
                let path = path.strip_prefix(package()).expect("below the package").to_owned();
                files.push(File { path, text });
            }
        }
    }
    assert!(!files.is_empty(), "no file below {folder}");
    files
}

/// Fails with the list of all violations.
#[track_caller]
pub(crate) fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The identifiers after a marker such as `crate::`, including those in braces.
fn named_after(code: &str, marker: &str) -> BTreeSet<String> {
    let identifier = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices(marker) {
        // Skips the end of another path, such as `foo_crate::`.
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = &code[at + marker.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            names.insert(identifier(rest));
            continue;
        };
        let mut depth = 0;
        let mut begins = true;
        for (at, c) in group.char_indices() {
            match c {
                '}' if depth == 0 => break,
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => begins = true,
                c if depth == 0 && begins && !c.is_whitespace() => {
                    names.insert(identifier(&group[at..]));
                    begins = false;
                }
                _ => {}
            }
        }
    }
    names
}

#[test]
fn imports_are_found() {
    let code =
        "use crate::{\n    error::{Error, Kind},\n    limits,\n};\nlet x = crate::model::x();";
    let names = |list: &[&str]| list.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(named_after(code, "crate::"), names(&["error", "limits", "model"]));
    assert_eq!(named_after("my_crate::x", "crate::"), names(&[]));
    assert_eq!(messages(r#"warn!(a = "B", ?c, "d {e}"); tracing::error!("F.")"#), ["d {e}", "F."]);
}

#[test]
fn a_module_imports_only_whom_it_may() {
    let mut wrong = Vec::new();
    for file in files("src").iter().filter(|file| !file.is_test()) {
        let (module, path) = (file.module(), file.path.display());
        if matches!(module, "lib" | "main" | "server") {
            continue;
        }
        let Some((_, allowed)) = IMPORTS.iter().find(|(name, _)| *name == module) else {
            wrong.push(format!("{path}: the module {module} has no rule"));
            continue;
        };
        for name in named_after(&file.code(), "crate::") {
            if name != module && !allowed.contains(&name.as_str()) {
                wrong.push(format!("{path}: {module} must not import {name}"));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn a_crate_stays_where_it_belongs() {
    let mut wrong = Vec::new();
    for file in files("src").iter().filter(|file| !file.is_test()) {
        let (module, code) = (file.module(), file.code());
        for (name, allowed) in CRATES {
            let is_named = !named_after(&code, &format!("{name}::")).is_empty();
            if is_named && !allowed.contains(&module) && !matches!(module, "lib" | "main") {
                wrong.push(format!("{}: {module} must not know {name}", file.path.display()));
            }
        }
    }
    assert_none(&wrong);
}

/// SQL words: every piece of SQL that names a table has at least one of them.
const SQL: [&str; 8] = ["SELECT", "FROM", "JOIN", "INTO", "UPDATE", "TABLE", "ON", "EXISTS"];

/// The only files and folders that may have statements on a table.
const STATEMENTS: [(&str, &[&str]); 1] = [(
    "entry",
    &["src/namespace/entries.rs", "src/namespace/entries", "src/namespace/schema/steps.rs"],
)];

/// A token of code: a string literal, or a character outside of string literals.
enum Token {
    String(String),
    Char(char),
}

/// The tokens of code without comments.
fn tokens(code: &str) -> impl Iterator<Item = Token> {
    let mut chars = code.chars();
    std::iter::from_fn(move || {
        let first = chars.next()?;
        if first != '"' {
            return Some(Token::Char(first));
        }
        let (mut text, mut is_escaped) = (String::new(), false);
        for c in chars.by_ref() {
            match c {
                _ if is_escaped => is_escaped = false,
                '\\' => is_escaped = true,
                '"' => return Some(Token::String(text)),
                c => text.push(c),
            }
        }
        None
    })
}

/// The strings in code that are SQL with a table among its words.
fn statements_on(code: &str, table: &str) -> Vec<String> {
    let code = code.replace("'\"'", "");
    let strings = tokens(&code).filter_map(|token| match token {
        Token::String(text) => Some(text),
        Token::Char(_) => None,
    });
    let is_on = |string: &String| {
        let words: BTreeSet<&str> =
            string.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        words.contains(table) && SQL.iter().any(|word| words.contains(word))
    };
    strings.filter(is_on).collect()
}

#[test]
fn statements_are_found() {
    let code = r#"let c = '"'; f("an entry"); g("SELECT 1
        FROM folder f, entry", "FROM entry_child", "DELETE FROM entry");"#;
    let found = statements_on(code, "entry");
    assert_eq!(found, ["SELECT 1\n        FROM folder f, entry", "DELETE FROM entry"]);
}

#[test]
fn a_table_has_its_statements_in_one_place() {
    let mut wrong = Vec::new();
    for (table, places) in STATEMENTS {
        let (inside, outside): (Vec<_>, Vec<_>) = files("src")
            .into_iter()
            .filter(|file| !file.is_test())
            .partition(|file| places.iter().any(|place| file.path.starts_with(place)));
        assert!(inside.iter().any(|file| !statements_on(&file.code(), table).is_empty()));
        for file in outside {
            for sql in statements_on(&file.code(), table) {
                wrong.push(format!("{}: a statement on {table}: {sql}", file.path.display()));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn a_file_says_what_it_is_and_is_not_long() {
    let mut wrong = Vec::new();
    for folder in ["src", "tests"] {
        for file in files(folder) {
            let path = file.path.display();
            if !file.text.starts_with("//! ") {
                wrong.push(format!("{path}: does not begin with //!"));
            }
            let lines = file.text.lines().count();
            if lines > LINES_MAX {
                wrong.push(format!("{path}: {lines} lines, at most {LINES_MAX}"));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn nothing_is_left_for_later() {
    let mut wrong = Vec::new();
    for folder in ["src", "tests"] {
        for file in files(folder).iter().filter(|file| !file.path.ends_with("tidy.rs")) {
            for word in ["TODO", "FIXME", "unimplemented!", "todo!", "#[ignore"] {
                if file.text.contains(word) {
                    wrong.push(format!("{}: has {word}", file.path.display()));
                }
            }
        }
    }
    assert_none(&wrong);
}

/// The messages of the log macros in code: the last string of each call.
fn messages(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for name in ["error!(", "warn!(", "info!(", "debug!(", "trace!("] {
        for (at, _) in code.match_indices(name) {
            let (mut depth, mut last) = (1, None);
            for token in tokens(&code[at + name.len()..]) {
                match token {
                    Token::String(text) => last = Some(text),
                    Token::Char('(') => depth += 1,
                    Token::Char(')') => depth -= 1,
                    Token::Char(_) => {}
                }
                if depth == 0 {
                    break;
                }
            }
            found.extend(last.map(|message| (at, message)));
        }
    }
    found.sort();
    found.into_iter().map(|(_, message)| message).collect()
}

#[test]
fn log_messages_are_lower_case_without_a_full_stop() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for file in files("src").iter().filter(|file| !file.is_test()) {
        for message in messages(&file.code()) {
            count += 1;
            let is_capital = message.starts_with(|c: char| c.is_uppercase());
            if message.is_empty() || is_capital || message.ends_with(['.', '!']) {
                wrong.push(format!("{}: {message:?}", file.path.display()));
            }
        }
    }
    assert_none(&wrong);
    assert!(count > 10, "only {count} messages");
}

#[test]
fn no_test_file_is_forgotten() {
    let mut wrong = Vec::new();
    for file in files("tests") {
        let name = file.path.file_stem().expect("a name").to_str().expect("text");
        let folder = file.path.parent().expect("a folder");
        let (owner, name) = match name {
            "main" => continue,
            "mod" => {
                let name = folder.file_name().expect("a name").to_str().expect("text");
                (folder.parent().expect("a folder"), name)
            }
            // A file that several test binaries share has a `#[path]` line in each of them.
            name if folder.ends_with("support") => {
                let line = format!("support/{name}.rs\"]");
                if !files("tests").iter().any(|file| file.text.contains(&line)) {
                    wrong.push(format!("{}: is not compiled", file.path.display()));
                }
                continue;
            }
            name => (folder, name),
        };
        let owner = ["mod.rs", "main.rs"].map(|file| package().join(owner).join(file));
        let owner = owner.iter().find(|path| path.exists() && **path != package().join(&file.path));
        let text = fs::read_to_string(owner.expect("an owner")).expect("a file");
        let is_it = |line: &str| line.trim_start_matches("pub(crate) ") == format!("mod {name};");
        if !text.lines().any(is_it) {
            wrong.push(format!("{}: is not compiled", file.path.display()));
        }
    }
    assert_none(&wrong);
}

#[test]
fn a_link_of_the_readme_leads_somewhere() {
    let text = fs::read_to_string(package().join("README.md")).expect("the README");
    let mut wrong = Vec::new();
    for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        let target = link.split('#').next().unwrap_or_default();
        if !link.contains("://") && !target.is_empty() && !package().join(target).exists() {
            wrong.push(format!("README.md: {link} leads nowhere"));
        }
    }
    assert_none(&wrong);
}
