//! The layers hold: a file of `src` imports only from layers below its own, through that layer's `mod.rs`.
//!
//! It reads every `crate::` path in the sources, as text, against the table below (the picture is in `src/lib.rs` and
//! `doc/architecture.md`).

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Names from the ground up, each with those that it may name.
type Table = &'static [(&'static str, &'static [&'static str])];

/// Each layer with all layers that its files may name. `sync` stands beside the four from `transport` up: neither wing
/// knows the other.
const LAYERS: Table = &[
    ("error", &[]),
    ("sys", &["error"]),
    ("tensor", &["error", "sys"]),
    ("wait", &["error", "sys", "tensor"]),
    ("wire", &["error", "sys", "tensor", "wait"]),
    ("sync", &["error", "sys", "tensor", "wait", "wire"]),
    ("transport", &["error", "sys", "tensor", "wait", "wire"]),
    ("lane", &["error", "sys", "tensor", "wait", "wire", "transport"]),
    ("peer", &["error", "sys", "tensor", "wait", "wire", "transport", "lane"]),
    ("collective", &["error", "sys", "tensor", "wait", "wire", "transport", "lane", "peer"]),
    ("bind", &["error", "sys", "tensor", "wait", "wire", "sync", "transport", "lane", "peer", "collective"]),
];

/// The modules of layers whose modules are layers again, in the same way. A file directly in the layer is one of them,
/// its `mod.rs` is not.
const MODULES: &[(&str, Table)] = &[
    (
        "tensor",
        &[
            ("data", &[]),
            ("kernel", &["data"]),
            ("file", &["data"]),
            ("ops", &["data", "kernel"]),
            ("property", &["data", "kernel", "file", "ops"]),
        ],
    ),
    (
        "bind",
        &[
            ("vm", &[]),
            ("codec", &["vm"]),
            ("tensor", &["vm", "codec"]),
            ("sync", &["vm", "codec", "tensor"]),
            ("process", &["vm", "codec", "tensor"]),
            ("peer", &["vm", "codec", "tensor"]),
            ("threads", &["vm", "codec", "tensor"]),
            ("wait", &["vm", "codec", "tensor", "sync", "process", "peer", "threads"]),
            ("module", &["vm", "codec", "tensor", "sync", "process", "peer", "threads", "wait"]),
        ],
    ),
];

/// A file that no one would read in one sitting.
const LONGEST: usize = 900;

struct Source {
    path: PathBuf,
    layer: String,
    text: String,
}

fn sources() -> Vec<Source> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&src, &mut found);
    found.sort();
    let of = |path: PathBuf| {
        let inside = path.strip_prefix(&src).unwrap();
        let layer = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
        Source { layer, text: fs::read_to_string(&path).unwrap(), path: inside.to_owned() }
    };
    found.into_iter().map(of).collect()
}

/// The source without comments and strings, which may name anything.
fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let mut quoted = false;
        let mut before = ' ';
        let mut chars = line.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '\\' if quoted => {
                    chars.next();
                }
                '"' if before != '\'' => quoted = !quoted,
                '/' if !quoted && chars.peek() == Some(&'/') => break,
                c if !quoted => out.push(c),
                _ => {}
            }
            before = c;
        }
        out.push('\n');
    }
    out
}

/// Every `crate::a::b` in the code as its segments; `crate::a::{b, c::d}` gives `[a, b]` and `[a, c, d]`.
fn paths(code: &str) -> Vec<Vec<String>> {
    fn tree(text: &str, prefix: &[String], found: &mut Vec<Vec<String>>) {
        let text = text.trim_start();
        if let Some(inside) = text.strip_prefix('{') {
            let mut depth = 0;
            let mut start = 0;
            for (at, c) in inside.char_indices() {
                match c {
                    '{' => depth += 1,
                    ',' if depth == 0 => {
                        tree(&inside[start..at], prefix, found);
                        start = at + 1;
                    }
                    '}' if depth == 0 => {
                        tree(&inside[start..at], prefix, found);
                        return;
                    }
                    '}' => depth -= 1,
                    _ => {}
                }
            }
            return;
        }
        let name: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if name.is_empty() {
            if !prefix.is_empty() {
                found.push(prefix.to_vec());
            }
            return;
        }
        let mut path = prefix.to_vec();
        path.push(name.clone());
        match text[name.len()..].strip_prefix("::") {
            Some(rest) => tree(rest, &path, found),
            None => found.push(path),
        }
    }
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        // `$crate::` in a macro means the same; `othercrate::` does not.
        if !before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            tree(&code[at + "crate::".len()..], &[], &mut found);
        }
    }
    found
}

/// The layer of a path's first segment; of a macro that `#[macro_export]` put at the root, the layer that defines it.
fn layer_of<'a>(segment: &'a str, all: &'a [Source]) -> &'a str {
    let defines =
        |s: &&Source| s.text.contains("#[macro_export]") && s.text.contains(&format!("macro_rules! {segment} "));
    all.iter().find(defines).map_or(segment, |s| &s.layer)
}

/// What a file names: its own paths, and those in the macros that it names, which speak for their users.
fn named(source: &Source, all: &[Source]) -> Vec<Vec<String>> {
    let mut found = paths(&code(&source.text));
    for name in found.iter().map(|path| path[0].clone()).collect::<BTreeSet<_>>() {
        let rule = format!("macro_rules! {name} ");
        for text in all.iter().filter_map(|s| s.text.split_once(&rule)).map(|(_, rest)| rest) {
            found.extend(paths(&code(text.split("\n}\n").next().unwrap())));
        }
    }
    found
}

/// The module of `layer` that a path leads into, if it does.
fn module_of<'a>(layer: &str, path: &'a [String], all: &'a [Source]) -> Option<&'a str> {
    let rule = format!("macro_rules! {} ", path[0]);
    let module = match all.iter().find(|s| s.text.contains("#[macro_export]") && s.text.contains(&rule)) {
        Some(defines) if defines.layer == layer => module_with(&defines.path),
        None if path[0] == layer => path.get(1)?,
        _ => return None,
    };
    let folder = Path::new(layer).join(module);
    all.iter().any(|s| s.path == folder.with_extension("rs") || s.path.starts_with(&folder)).then_some(module)
}

/// The module of a layer that a file lies in.
fn module_with(path: &Path) -> &str {
    path.iter().nth(1).unwrap().to_str().unwrap().trim_end_matches(".rs")
}

fn below(layer: &str) -> &'static [&'static str] {
    let found = LAYERS.iter().find(|(name, _)| *name == layer);
    found.unwrap_or_else(|| panic!("src/{layer} is not a layer: add it to the table in tests/layering.rs")).1
}

#[test]
fn a_file_imports_only_from_floors_below_its_own() {
    let all = sources();
    let mut wrong = BTreeSet::new();
    for source in all.iter().filter(|s| s.layer != "lib") {
        let allowed = below(&source.layer);
        for path in paths(&code(&source.text)) {
            let layer = layer_of(&path[0], &all);
            if layer != source.layer && !allowed.contains(&layer) {
                wrong.insert(format!("{}: names crate::{}", source.path.display(), path.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "these reach up or across:\n{}", Vec::from_iter(wrong).join("\n"));
}

#[test]
fn a_module_imports_only_from_modules_below_its_own() {
    let all = sources();
    let mut wrong = BTreeSet::new();
    for (layer, modules) in MODULES {
        let mut seen = BTreeSet::new();
        for source in all.iter().filter(|s| s.layer == *layer && s.path != Path::new(layer).join("mod.rs")) {
            let own = module_with(&source.path);
            let Some((_, allowed)) = modules.iter().find(|(module, _)| *module == own) else {
                panic!("{} is in none of the modules: add it to the table in tests/layering.rs", source.path.display());
            };
            seen.insert(own);
            for path in named(source, &all) {
                if let Some(module) = module_of(layer, &path, &all)
                    && module != own
                    && !allowed.contains(&module)
                {
                    wrong.insert(format!("{}: names crate::{}", source.path.display(), path.join("::")));
                }
            }
        }
        assert_eq!(
            seen.len(),
            modules.len(),
            "src/{layer} no longer has all modules of the table in tests/layering.rs"
        );
    }
    assert!(wrong.is_empty(), "these reach up or across:\n{}", Vec::from_iter(wrong).join("\n"));
}

#[test]
fn the_table_of_modules_has_no_circle() {
    for (_, modules) in MODULES {
        for (at, (module, allowed)) in modules.iter().enumerate() {
            for below in *allowed {
                assert!(
                    modules[..at].iter().any(|(name, _)| name == below),
                    "{module} stands on {below}, further down"
                );
            }
        }
    }
}

#[test]
fn a_macro_is_charged_to_its_user() {
    let text = |path: &str, text: &str| Source { path: path.into(), layer: "bind".into(), text: text.into() };
    let all = [
        text("bind/low.rs", "#[macro_export]\nmacro_rules! make {\n    () => { $crate::bind::high::Thing }\n}\n"),
        text("bind/high/mod.rs", "pub struct Thing;\n"),
        text("bind/user.rs", "use crate::make;\n"),
    ];
    let modules: Vec<_> =
        named(&all[2], &all).iter().filter_map(|p| module_of("bind", p, &all).map(str::to_owned)).collect();
    assert_eq!(modules, ["low", "high"]);
}

#[test]
fn a_layer_is_entered_through_its_front_door() {
    let all = sources();
    let mut wrong = BTreeSet::new();
    for source in all.iter().filter(|s| s.layer != "lib") {
        for path in paths(&code(&source.text)) {
            let layer = layer_of(&path[0], &all);
            if layer == source.layer || path.len() < 3 {
                continue;
            }
            // `crate::wait::deadline::Deadline`: a way round mod.rs, if there is a file of that name. A public
            // submodule is a door of its own.
            let inner = Path::new(layer).join(&path[1]);
            let is_file = all.iter().any(|s| s.path == inner.with_extension("rs") || s.path == inner.join("mod.rs"));
            let door = all.iter().find(|s| s.path == Path::new(layer).join("mod.rs"));
            let open = door.is_some_and(|d| d.text.contains(&format!("pub mod {};", path[1])));
            if is_file && !open {
                wrong.insert(format!("{}: names crate::{}", source.path.display(), path.join("::")));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "these climb in by the window (go through mod.rs):\n{}",
        Vec::from_iter(wrong).join("\n")
    );
}

/// A `mod.rs` is a contract (its children import it) or a composition (it puts its children together), never both: what
/// children take from it must not be made of children. Mechanically: if any child names a thing of its `mod.rs`, then
/// no body of code in that `mod.rs` may call into a child (`child::thing(`).
#[test]
fn a_mod_rs_is_a_contract_or_a_composition() {
    let all = sources();
    let mut wrong = Vec::new();
    for parent in all.iter().filter(|s| s.path.ends_with("mod.rs")) {
        let folder = parent.path.parent().unwrap();
        let children: Vec<&Source> =
            all.iter().filter(|s| s.path.parent() == Some(folder) && s.path != parent.path).collect();
        let parent_code = code(&parent.text);
        // What the mod.rs defines itself, re-exports left out.
        let defined: Vec<String> = parent_code
            .lines()
            .filter_map(|line| {
                let line = line.trim_start().strip_prefix("pub")?;
                let line = line.trim_start_matches(['(', ')', ' ']);
                let line = line.strip_prefix("crate) ").unwrap_or(line);
                let mut words = line.split_whitespace().skip_while(|w| ["unsafe", "const", "async"].contains(w));
                ["struct", "enum", "trait", "fn", "type", "static"].contains(&words.next()?).then_some(())?;
                Some(words.next()?.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
            })
            .collect();
        let module: Vec<&str> = folder.iter().map(|p| p.to_str().unwrap()).collect();
        let taken_by = children.iter().find(|child| {
            let child_code = code(&child.text);
            let by_super = defined.iter().any(|name| {
                child_code.contains(&format!("super::{name}"))
                    || child_code.lines().any(|l| {
                        l.trim_start().starts_with("use super::{")
                            && l.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == name)
                    })
            });
            let by_crate = paths(&child_code).iter().any(|path| {
                path.len() > module.len()
                    && path.iter().zip(&module).all(|(a, b)| a == b)
                    && defined.contains(&path[module.len()])
            });
            by_super || by_crate
        });
        let calls = children.iter().find(|child| {
            let name = child.path.file_stem().unwrap().to_str().unwrap();
            parent_code
                .lines()
                .filter(|l| {
                    !(l.trim_start().starts_with("use ") || l.trim_start().starts_with("pub") && l.contains(" use "))
                })
                .any(|l| l.contains(&format!(" {name}::")) || l.contains(&format!("({name}::")))
        });
        if let (Some(child), Some(called)) = (taken_by, calls) {
            wrong.push(format!(
                "{}: {} takes from it what it defines, and it calls into {}",
                parent.path.display(),
                child.path.display(),
                called.path.display()
            ));
        }
    }
    assert!(wrong.is_empty(), "contract and composition at once:\n{}", wrong.join("\n"));
}

#[test]
fn only_bind_knows_lua() {
    let known: Vec<String> = sources()
        .iter()
        .filter(|s| s.layer != "bind" && code(&s.text).contains("mlua_sys"))
        .map(|s| s.path.display().to_string())
        .collect();
    assert!(known.is_empty(), "mlua_sys outside src/bind: {}", known.join(", "));
}

#[test]
fn a_file_can_be_read_in_one_sitting() {
    let long: Vec<String> = sources()
        .iter()
        .filter(|s| s.text.lines().count() > LONGEST)
        .map(|s| format!("{} has {} lines", s.path.display(), s.text.lines().count()))
        .collect();
    assert!(long.is_empty(), "over {LONGEST} lines:\n{}", long.join("\n"));
    let map = sources().into_iter().find(|s| s.layer == "lib").unwrap();
    assert!(map.text.lines().count() < 80, "src/lib.rs only lists the layers");
}

#[test]
fn the_reader_of_paths_understands_nested_braces_and_skips_comments() {
    let text =
        "use crate::wait::{Deadline, park::{Pause, Futex}};\n// crate::bind\nlet s = \"crate::peer\"; $crate::err!()";
    let found: Vec<String> = paths(&code(text)).iter().map(|p| p.join("::")).collect();
    assert_eq!(found, ["wait::Deadline", "wait::park::Pause", "wait::park::Futex", "err"]);
}
