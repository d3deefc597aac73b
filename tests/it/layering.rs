//! Reads `src` and fails on an arrow that runs upward between layers, on an external crate outside of its layers, and on
//! what only one place may do: statics, environment variables, spawning.
//!
//! It reads text, not types: `layering/source.rs` makes paths of tokens. Code that is compiled for tests only is free.

mod rules;
mod source;

use std::{fs, path::Path};

use rules::violations;

#[test]
fn source_keeps_its_layers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    rust_files(&root.join("src"), &mut files);
    for file in &files {
        let text = fs::read_to_string(file).unwrap();
        let declared = text.matches("mod tests;").count();
        assert_eq!(declared, text.matches("#[cfg(test)]\nmod tests;").count(), "{}", file.display());
    }
    assert!(files.iter().any(|file| file.ends_with("src/lib.rs")), "found no sources");
    let found: Vec<String> = files
        .iter()
        .flat_map(|file| {
            let text = fs::read_to_string(file).unwrap();
            violations(file.strip_prefix(root).unwrap().to_str().unwrap(), &text)
        })
        .collect();
    assert!(found.is_empty(), "see ARCHITECTURE.md for the layers\n{}", found.join("\n"));
}

fn rust_files(dir: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        // Modules of tests in files of their own; `mod tests` stands under `#[cfg(test)]` wherever it is declared.
        if path.file_stem().is_some_and(|stem| stem == "tests") {
            continue;
        }
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Asserts that `text`, as the file `file`, breaks the rules with exactly these complaints (each a part of one).
fn assert_found(file: &str, text: &str, complaints: &[&str]) {
    let found = violations(file, text);
    assert_eq!(found.len(), complaints.len(), "{file}: {text}\n{found:#?}");
    for (found, complaint) in found.iter().zip(complaints) {
        assert!(found.contains(complaint), "{found} says nothing of {complaint}");
    }
}

#[test]
fn upward_and_sideways_arrows_are_caught() {
    assert_found("src/pool/mod.rs", "use crate::session::Turn;", &["src/pool/mod.rs:1: pool (5) uses session (7)"]);
    assert_found("src/net/tls.rs", "\n\nfn f() { crate::pool::x() }", &["src/net/tls.rs:3: net (2) uses pool (5)"]);
    assert_found("src/wire/a.rs", "use crate::config::C;", &["wire (0) uses config (1)"]);
    assert_found("src/wire/a.rs", "use crate::{wire::b, metrics::{self, c}, wire::d};", &["uses metrics (0)"]);
    assert_found("src/auth/a.rs", "pub(crate) use crate::{\n  a_b,\n};", &["crate::a_b"]);
    assert_found("src/auth/a.rs", "impl crate::admin::T for U {}", &["uses admin (8)"]);
    assert_found("src/auth/mod.rs", "use super::pool;", &["auth (3) uses pool (5)"]);
    assert_found("src/auth/scram.rs", "use super::super::pool::P;", &["auth (3) uses pool (5)"]);
    assert_found("src/auth/scram.rs", "mod inner { use super::super::super::pool::P; }", &["auth (3) uses pool (5)"]);
    assert_found("src/auth/a.rs", "macro_rules! m { () => { $crate::proxy::run() } }", &["uses proxy (9)"]);
    assert_found("src/brand_new/mod.rs", "", &["brand_new has no layer"]);
}

#[test]
fn downward_arrows_are_free() {
    assert_found("src/session/a.rs", "use crate::{pool::Lease, session::turn::Turn, wire, net::Stream};", &[]);
    assert_found("src/auth/scram/client.rs", "use super::super::hba; use super::server; mod m { use super::x; }", &[]);
    assert_found("src/lib.rs", "pub mod wire; use crate::proxy::Proxy;", &[]);
    assert_found("src/main.rs", "use pgpool::proxy::Proxy; use clap::Parser; fn f() { tokio::select!{} }", &[]);
    assert_found("src/wire/a.rs", "pub(crate) fn f() {} pub(in crate::wire) fn g() {} pub(super) fn h() {}", &[]);
}

#[test]
fn crates_outside_of_their_layers_are_caught() {
    for (file, text, name) in [
        ("src/wire/a.rs", "use tokio::io::AsyncRead;", "tokio"),
        ("src/config/a.rs", "use std::io; use ::tokio::io;", "tokio"),
        ("src/auth/a.rs", "async fn f() { tokio::time::sleep(d).await }", "tokio"),
        ("src/wire/a.rs", "use std::{r#async, x}; use toml::x;", "toml"),
        ("src/metrics/a.rs", "use {bytes::Bytes, tokio::sync::{mpsc, oneshot}};", "tokio"),
        ("src/session/a.rs", "use deadpool::unmanaged::Pool;", "deadpool"),
        ("src/main.rs", "use deadpool::unmanaged::Pool;", "deadpool"),
        ("src/session/a.rs", "fn f(m: pgwire::messages::M) {}", "pgwire"),
        ("src/proxy/a.rs", "use toml;", "toml"),
        ("src/proxy/a.rs", "use toml as t;", "toml"),
        ("src/backend/a.rs", "extern crate sha2;", "sha2"),
        ("src/frontend/a.rs", "use hmac::Mac;", "hmac"),
        ("src/frontend/a.rs", "md5::Md5::new()", "md5"),
        ("src/wire/a.rs", "use base64::Engine as _;", "base64"),
        ("src/wire/a.rs", "use subtle::ConstantTimeEq;", "subtle"),
        ("src/wire/a.rs", "stringprep::saslprep(x)", "stringprep"),
        ("src/proxy/a.rs", "#[derive(clap::Parser)] struct S;", "clap"),
        ("src/lib.rs", "use clap::Parser;", "clap"),
        ("src/proxy/a.rs", "tracing_subscriber::fmt()", "tracing_subscriber"),
        ("src/backend/a.rs", "socket2::Socket::new()", "socket2"),
        ("src/wire/a.rs", "tracing::info!()", "tracing"),
    ] {
        assert_found(file, text, &[&format!("the crate {name} does not belong")]);
    }
}

#[test]
fn crates_inside_their_layers_are_free() {
    for (file, text) in [
        ("src/net/a.rs", "use tokio::net::TcpStream; use socket2::Socket; use tracing::debug;"),
        ("src/pool/a.rs", "use deadpool::unmanaged::Pool;"),
        ("src/backend/a.rs", "use pgwire::messages::M;"),
        ("src/frontend/a.rs", "use pgwire::messages::M;"),
        ("src/admin/a.rs", "use pgwire::messages::M;"),
        ("src/config/a.rs", "use toml::de::DeTable;"),
        ("src/auth/a.rs", "use {hmac::Mac, sha2::Sha256, md5::Md5, base64::Engine}; use crate::auth::md5;"),
        ("src/cli.rs", "use clap::Parser;"),
        ("src/cli/check.rs", "use clap::Parser;"),
        // Names that only look like the crate's.
        ("src/frontend/a.rs", "use crate::auth::md5; auth::md5::check(); self.toml::<u8>(); let md5 = 1; x(md5);"),
    ] {
        assert_found(file, text, &[]);
    }
}

#[test]
fn statics_variables_and_spawning_are_caught() {
    assert_found("src/pool/a.rs", "static COUNT: AtomicU64 = AtomicU64::new(0);", &["a static"]);
    assert_found("src/pool/a.rs", "pub(crate) static mut X: u8 = 0;", &["a static"]);
    assert_found("src/pool/a.rs", "thread_local! { static X: u8 = 0; }", &["a static"]);
    assert_found("src/main.rs", "#[global_allocator]\n#[doc = \"x\"]\nstatic A: Alloc = Alloc;", &[]);
    assert_found(
        "src/main.rs",
        "#[global_allocator]\nstatic A: Alloc = Alloc;\nstatic B: u8 = 0;",
        &["main.rs:3: a static"],
    );
    assert_found("src/pool/a.rs", "fn f(x: &'static str) where T: 'static {}", &[]);

    assert_found("src/net/a.rs", "std::env::var(\"X\")", &["environment"]);
    assert_found("src/net/a.rs", "use std::env; fn f() { env::var_os(\"X\");\nenv::vars(); }", &["environment"; 2]);
    assert_found("src/net/a.rs", "use std::env::var;", &["environment"]);
    assert_found("src/main.rs", "std::env::var(\"X\")", &[]);
    assert_found("src/config/a.rs", "std::env::var(\"X\")", &[]);
    assert_found("src/net/a.rs", "env!(\"CARGO_PKG_VERSION\"); std::env::temp_dir()", &[]);

    assert_found("src/pool/a.rs", "tokio::spawn(async {})", &["spawn"]);
    assert_found("src/pool/a.rs", "use tokio::task::spawn;", &["spawn"]);
    assert_found("src/pool/a.rs", "set.spawn(f);\nthread::spawn(g);\nspawn_blocking(h)", &["spawn"; 3]);
    assert_found("src/proxy/mod.rs", "set.spawn::<T>(f);", &["spawn"]);
    assert_found("src/proxy/tasks.rs", "tokio::spawn(async {})", &[]);
    assert_found("src/pool/a.rs", "fn spawn(x: u8) {} let spawn = 1; tasks.spawn_session(x);", &[]);
}

#[test]
fn what_is_not_compiled_into_the_program_is_ignored() {
    for text in [
        "// use crate::proxy::X;\n/* static A: u8 = 0; /* tokio::spawn(x) */ use deadpool::x; */",
        "//! `crate::proxy::X` and tokio::spawn(x)\n/// use crate::proxy::X;",
        "const A: &str = \"use crate::proxy::X; \\\" static B: u8\"; const C: &[u8] = b\"tokio::spawn(\";",
        "const A: &str = r##\"use crate::proxy::X; \"# static B: u8 = tokio::spawn(\"##; const C: char = '\"';",
        "const Q: char = '\\''; const R: u8 = b'\"'; fn f<'a>(x: &'a str) {} // static A: u8",
        "#[cfg(test)]\nmod tests { use crate::proxy::X; use tokio::test; fn f() { { tokio::spawn(x) } } }",
        "#[cfg(test)]\n#[allow(x)]\nuse crate::proxy::X;",
        "#[cfg(all(test, unix))]\npub(crate) fn f() -> [u8; 2] { tokio::spawn(x) }",
        "#[tokio::test]\nasync fn f() { tokio::spawn(x) }",
    ] {
        assert_found("src/wire/a.rs", text, &[]);
    }
    // What comes after is looked at again, and what is for all but tests always.
    assert_found("src/wire/a.rs", "#[cfg(test)]\nmod tests;\nuse crate::proxy::X;", &["a.rs:3: wire"]);
    assert_found("src/wire/a.rs", "#[cfg(test)] mod tests { }\n use crate::proxy::X;", &["a.rs:2: wire"]);
    assert_found("src/wire/a.rs", "#[cfg(not(test))]\nuse crate::proxy::X;", &["a.rs:2: wire"]);
    assert_found("src/wire/a.rs", "const A: &str = r\"\\\"; use crate::proxy::X;", &["wire (0) uses proxy (9)"]);
}
