//! The layers, who may use which crate, and what has only one place. Change them here when `ARCHITECTURE.md` changes.

use super::source::{Token, UsedPath, attribute_end, paths, tokens};

/// A module imports modules of a smaller number only.
const LAYERS: &[(&str, u8)] = &[
    ("wire", 0),
    ("metrics", 0),
    ("sql", 0),
    ("hba", 0),
    ("config", 1),
    ("net", 2),
    ("auth", 3),
    ("backend", 4),
    ("pool", 5),
    ("frontend", 6),
    ("session", 7),
    ("admin", 8),
    ("proxy", 9),
];

/// The files of the program itself: above all layers.
const PROGRAM: &str = "main";
/// `lib.rs`, which names the modules and may name anything in them.
const ROOT: &str = "lib";

/// The crates that belong to certain modules; `main` stands for the program's own files.
const CRATES: &[(&str, &[&str])] = &[
    ("tokio", &["net", "backend", "pool", "frontend", "session", "admin", "proxy", "main"]),
    ("tracing", &["net", "auth", "backend", "pool", "frontend", "session", "admin", "proxy", "main"]),
    ("ahash", &["backend", "session"]),
    ("rustls", &["net"]),
    ("tokio_rustls", &["net"]),
    ("socket2", &["net"]),
    ("nix", &["net", "proxy"]),
    ("dns_lookup", &["net"]),
    ("hickory_resolver", &["net"]),
    ("openssl_probe", &["net"]),
    ("resolv_conf", &["config"]),
    ("ldap3", &["frontend"]),
    ("nonstick", &["frontend"]),
    ("deadpool", &["pool"]),
    ("pgwire", &["frontend", "backend", "admin"]),
    ("toml", &["config"]),
    ("regex", &["hba"]),
    ("hmac", &["auth"]),
    ("sha2", &["auth"]),
    ("md5", &["auth"]),
    ("base64", &["auth"]),
    ("subtle", &["auth"]),
    ("stringprep", &["auth"]),
    ("zeroize", &["hba", "config", "auth", "backend", "frontend"]),
    ("ratatui", &["main"]),
    ("serde", &["main"]),
    ("serde_json", &["main"]),
    ("hyper", &["proxy"]),
    ("hyper_util", &["proxy"]),
    ("http_body_util", &["proxy"]),
    ("clap", &["main"]),
    ("tracing_subscriber", &["main"]),
    ("listenfd", &["main"]),
    ("jiff", &["main"]),
];

const MAY_READ_THE_ENVIRONMENT: &[&str] = &["main", "config"];
const MAY_SPAWN: &str = "src/proxy/tasks.rs";
/// Starts a process, not a task.
const STARTS_A_PROCESS: &str = "src/cli/daemon.rs";
const SPAWNING: &[&str] = &["spawn", "spawn_blocking", "spawn_local", "spawn_on", "spawn_scoped"];

struct File<'a> {
    name: &'a str,
    /// The top-level module, or `PROGRAM` or `ROOT`.
    module: &'a str,
    /// How many modules the file is below the crate's root: `src/auth/mod.rs` is 1, `src/auth/scram.rs` is 2.
    depth: usize,
}

/// What is wrong with one file, as `file:line: complaint`, in the order of the rules; said once a line.
pub(super) fn violations(name: &str, text: &str) -> Vec<String> {
    let file = File::named(name);
    let tokens = tokens(text);
    let paths = paths(&tokens);
    let mut found = Vec::new();
    if layer(file.module).is_none() && file.module != PROGRAM && file.module != ROOT {
        found.push(format!("{name}:1: {} has no layer", file.module));
    }
    for path in &paths {
        let complaints = [
            wrong_arrow(&file, path),
            foreign_crate(&file, path),
            environment(&file, path),
            imported_spawn(&file, path),
        ];
        found.extend(complaints.into_iter().flatten().map(|complaint| format!("{name}:{}: {complaint}", path.line)));
    }
    found.extend(statics(&tokens).map(|line| format!("{name}:{line}: a static: pass a value instead")));
    if name != MAY_SPAWN && name != STARTS_A_PROCESS {
        found.extend(spawn_calls(&tokens).map(|line| format!("{name}:{line}: a call of spawn outside {MAY_SPAWN}")));
    }
    found.dedup();
    found
}

impl<'a> File<'a> {
    fn named(name: &'a str) -> Self {
        let inside = name.strip_prefix("src/").unwrap_or(name);
        let inside = inside.strip_suffix(".rs").unwrap_or(inside);
        let first = inside.split('/').next().unwrap_or(inside);
        let module = if first.starts_with("cli") { PROGRAM } else { first };
        let parts = inside.strip_suffix("/mod").unwrap_or(inside).split('/').count();
        let depth = if module == ROOT || inside == PROGRAM { 0 } else { parts };
        Self { name, module, depth }
    }
}

fn layer(module: &str) -> Option<u8> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer)
}

fn wrong_arrow(file: &File<'_>, path: &UsedPath<'_>) -> Option<String> {
    let own = layer(file.module)?;
    let target = top_level(file, path)?;
    match layer(target) {
        _ if target == file.module => None,
        Some(other) if other < own => None,
        Some(other) => Some(format!("{} ({own}) uses {target} ({other})", file.module)),
        None => Some(format!("crate::{target} is in no layer")),
    }
}

/// The crate's module that a path leads to, when it goes by the crate's root.
fn top_level<'a>(file: &File<'_>, path: &UsedPath<'a>) -> Option<&'a str> {
    let ups = path.parts.iter().take_while(|part| **part == "super").count();
    match path.parts.as_slice() {
        ["crate", target, ..] => Some(target),
        ["super", ..] if ups >= file.depth + path.depth => path.parts.get(ups).copied(),
        _ => None,
    }
}

fn foreign_crate(file: &File<'_>, path: &UsedPath<'_>) -> Option<String> {
    let first = *path.parts.first()?;
    let (_, modules) = CRATES.iter().find(|(name, _)| *name == first)?;
    (!modules.contains(&file.module)).then(|| format!("the crate {first} does not belong into {}", file.module))
}

fn environment(file: &File<'_>, path: &UsedPath<'_>) -> Option<String> {
    let reads = path.parts.windows(2).any(|pair| pair[0] == "env" && pair[1].starts_with("var"));
    (reads && !MAY_READ_THE_ENVIRONMENT.contains(&file.module))
        .then(|| "an environment variable is read outside of main and config".to_owned())
}

fn imported_spawn(file: &File<'_>, path: &UsedPath<'_>) -> Option<String> {
    let spawns = path.imported && path.parts.len() > 1 && path.parts.last().is_some_and(|last| SPAWNING.contains(last));
    (spawns && file.name != MAY_SPAWN).then(|| format!("spawn is imported outside {MAY_SPAWN}"))
}

/// The lines of the static items but the allocator's.
fn statics(tokens: &[Token<'_>]) -> impl Iterator<Item = usize> {
    let mut lines = Vec::new();
    let mut allocator = false;
    let mut at = 0;
    while at < tokens.len() {
        if let Some(end) = attribute_end(tokens, at) {
            allocator |= tokens[at..end].iter().any(|token| token.text == "global_allocator");
            at = end;
            continue;
        }
        match tokens[at].text {
            "static" if allocator => {}
            "static" => lines.push(tokens[at].line),
            ";" | "}" => allocator = false,
            _ => {}
        }
        at += 1;
    }
    lines.into_iter()
}

/// The lines where something of that name is called, be it a function or a method.
fn spawn_calls(tokens: &[Token<'_>]) -> impl Iterator<Item = usize> {
    tokens.iter().enumerate().filter_map(|(at, token)| {
        let before = at.checked_sub(1).map_or("", |before| tokens[before].text);
        let after = tokens.get(at + 1).map_or("", |after| after.text);
        let called = SPAWNING.contains(&token.text) && before != "fn" && matches!(after, "(" | "::");
        called.then_some(token.line)
    })
}
