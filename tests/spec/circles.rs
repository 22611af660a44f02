//! Forbids cycles between the files of a module, however long, so that a reader can begin with the files that
//! a file depends on.
//!
//! The nodes of a graph are the children of one module, each with all modules below it. A child may name its
//! parent, because all children may use the items that the parent itself declares. A name that the parent
//! only re-exports counts as a name of the child that declares it.

use std::collections::{BTreeMap, BTreeSet};

use crate::tidy::{File, assert_none, files};

/// The path of a module, as a list of names.
type Module = Vec<String>;
/// For each child of a module, the children that it names.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// The module of a file below `src`.
fn module(file: &File) -> Module {
    let path = file.path.strip_prefix("src").expect("below src").with_extension("");
    let mut names: Module =
        path.iter().map(|name| name.to_str().expect("text").to_owned()).collect();
    names.pop_if(|name| matches!(name.as_str(), "mod" | "lib" | "main"));
    names
}

/// Adds all paths of a tree of `use`, such as `a::{self, b::c}`.
fn expand(tree: &str, prefix: &[String], paths: &mut Vec<Module>) {
    let mut path = prefix.to_vec();
    let mut rest = tree.trim_start();
    loop {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        if !name.is_empty() && name != "self" {
            path.push(name.to_owned());
        }
        match after.trim_start().strip_prefix("::") {
            Some(next) => rest = next.trim_start(),
            None => break,
        }
    }
    let Some(group) = rest.strip_prefix('{') else { return paths.push(path) };
    let mut begin = 0;
    let mut depth = 0;
    for (at, c) in group.char_indices() {
        if depth == 0 && matches!(c, ',' | '}') {
            let member = group[begin..at].trim();
            if !member.is_empty() {
                expand(member, &path, paths);
            }
            begin = at + 1;
        }
        match c {
            '}' if depth == 0 => return,
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
}

/// The paths in code that begin with a word, as they are written.
fn paths(code: &str, word: &str) -> Vec<Module> {
    let mut paths = Vec::new();
    for (at, _) in code.match_indices(&format!("{word}::")) {
        let before = code[..at].chars().next_back().unwrap_or(' ');
        if !before.is_alphanumeric() && !matches!(before, '_' | ':') {
            expand(&code[at..], &[], &mut paths);
        }
    }
    paths
}

/// The modules of the program, each with its code.
struct Modules(BTreeMap<Module, String>);

impl Modules {
    /// Resolves a path from the root, also through re-exports, to its module.
    fn find(&self, mut path: Module) -> Module {
        for _ in 0..8 {
            let known = (0..=path.len()).rev().find(|&at| self.0.contains_key(&path[..at]));
            let (owner, rest) = path.split_at(known.unwrap_or_default());
            let (Some(code), Some(name)) = (self.0.get(owner), rest.first()) else { break };
            let Some(next) = self.handed_on(owner, code, name) else { break };
            path = next;
        }
        while !path.is_empty() && !self.0.contains_key(&path) {
            path.pop();
        }
        path
    }

    /// The path of a name that a module re-exports from one of its children; otherwise `None`.
    fn handed_on(&self, owner: &[String], code: &str, name: &str) -> Option<Module> {
        let is_child = |module: &Module| module.split_last().is_some_and(|(_, up)| up == owner);
        for child in self.0.keys().filter(|module| is_child(module)) {
            let word = child.last()?;
            let mut found = paths(code, word);
            found.extend(paths(code, "self").into_iter().filter(|path| path.first() == Some(word)));
            if found.iter().any(|path| path.len() > 1 && path.last().is_some_and(|x| x == name)) {
                return Some([child.as_slice(), &[name.to_owned()]].concat());
            }
        }
        None
    }

    /// The modules that a module names.
    fn named(&self, module: &Module, code: &str) -> BTreeSet<Module> {
        let from_root = paths(code, "crate").into_iter().map(|path| path[1..].to_vec());
        let from_here = paths(code, "super").into_iter().map(|path| {
            let ups = path.iter().take_while(|name| *name == "super").count();
            [&module[..module.len().saturating_sub(ups)], &path[ups..]].concat()
        });
        from_root.chain(from_here).map(|path| self.find(path)).collect()
    }

    /// The graph of the children of each module.
    fn graphs(&self) -> BTreeMap<Module, Graph> {
        let mut graphs: BTreeMap<Module, Graph> = BTreeMap::new();
        for (module, code) in &self.0 {
            for named in self.named(module, code) {
                let shared = module.iter().zip(&named).take_while(|(a, b)| a == b).count();
                if let (Some(from), Some(to)) = (module.get(shared), named.get(shared)) {
                    let graph = graphs.entry(module[..shared].to_vec()).or_default();
                    graph.entry(from.clone()).or_default().insert(to.clone());
                }
            }
        }
        graphs
    }
}

/// The names that are reachable from a name in one or more steps.
fn reached(graph: &Graph, from: &str) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut next = vec![from];
    while let Some(name) = next.pop() {
        for to in graph.get(name).into_iter().flatten() {
            if reached.insert(to.clone()) {
                next.push(to);
            }
        }
    }
    reached
}

/// The cycles, each as the names on it.
fn circles(graph: &Graph) -> BTreeSet<Vec<String>> {
    let on_one = |name: &&String| reached(graph, name).contains(*name);
    graph
        .keys()
        .filter(on_one)
        .map(|name| {
            let back = |other: &String| reached(graph, other).contains(name);
            reached(graph, name).into_iter().filter(back).collect()
        })
        .collect()
}

fn check(modules: &Modules) -> Vec<String> {
    let mut wrong = Vec::new();
    for (parent, graph) in modules.graphs() {
        for circle in circles(&graph) {
            let edges: Vec<_> = circle
                .iter()
                .flat_map(|from| graph[from].iter().map(move |to| (from, to)))
                .filter(|(_, to)| circle.contains(to))
                .map(|(from, to)| format!("{from} → {to}"))
                .collect();
            wrong.push(format!("{}: a circle: {}", parent.join("::"), edges.join(", ")));
        }
    }
    wrong
}

#[test]
fn a_circle_is_found() {
    let modules = |files: &[(&str, &str)]| {
        let module = |path: &str| path.split("::").map(str::to_owned).collect();
        Modules(files.iter().map(|(path, code)| (module(path), (*code).to_owned())).collect())
    };
    let found = check(&modules(&[
        ("a", "mod x; mod y; pub use x::{Shared, other::Name};"),
        ("a::x", "use super::{super::b, z::deep::Thing};"),
        ("a::y", "fn f() { super::Shared::new(); }"),
        ("a::z::deep", "use crate::a::{y::{self, What}};"),
        ("b", "use crate::a::x;"),
    ]));
    assert_eq!(found, [": a circle: a → b, b → a", "a: a circle: x → z, y → x, z → y"]);
    let sound = [
        ("a", "mod x; mod y; pub struct Own; use x::X;"),
        ("a::x", "use super::Own;"),
        ("a::y", "use super::{X, Own}; use super::x::Y;"),
    ];
    assert!(check(&modules(&sound)).is_empty());
}

#[test]
fn no_files_of_a_module_need_each_other() {
    let files = files("src");
    let own = files.iter().filter(|file| !file.is_test());
    let modules = Modules(own.map(|file| (module(file), file.code())).collect());
    assert!(modules.0.len() > 100, "only {} modules", modules.0.len());
    assert_none(&check(&modules));
}
