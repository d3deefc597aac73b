//! Removes a test's directory even when the test program was killed and no `Drop` ran.
//!
//! A shell in a process group of its own waits for the end of its standard input, which only the test program holds. It
//! then waits for a PostgreSQL that is still stopping (the kernel tells that one of its parent's death) and removes the
//! directory. It signals nobody.

use std::{
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
};

const SCRIPT: &str = r#"
cat >/dev/null
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
n=0
while [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null && [ $n -lt 100 ]; do sleep 0.1; n=$((n + 1)); done
rm -rf -- "$1"
"#;

/// Watches one directory for as long as it lives. Declare it after the directory's owner, so that it is dropped last.
#[derive(Debug)]
pub(crate) struct Janitor {
    shell: Child,
}

impl Janitor {
    pub(crate) fn watch(dir: &Path) -> Self {
        let shell = Command::new("sh")
            .arg("-c")
            .arg(SCRIPT)
            .arg("janitor")
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("start sh");
        Self { shell }
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}
