//! A real browser without a screen, driven by Chromium's DevTools protocol over a pair of pipes.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    janitor::Janitor,
    programs::{ended_with_this_thread, find},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// A browser with one page.
pub(crate) struct Browser {
    child: Child,
    commands: File,
    messages: Receiver<Value>,
    events: VecDeque<Value>,
    session: Option<String>,
    next: u64,
    _dir: TempDir,
    _janitor: Janitor,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends its own children.
        let _ = self.commands.write_all(b"{\"id\":999999,\"method\":\"Browser.close\"}\0");
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the browser is: Debian calls it chromium, others otherwise.
fn program() -> PathBuf {
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    names.into_iter().find_map(find).expect("a browser: Debian's package chromium")
}

impl Browser {
    pub(crate) fn start() -> Browser {
        let dir = tempfile::Builder::new().prefix("pgpool-browser-").tempdir().expect("make a directory");
        let janitor = Janitor::watch(dir.path());
        let pipes = ["commands", "messages"].map(|name| dir.path().join(name));
        assert!(Command::new("mkfifo").args(&pipes).status().expect("start mkfifo").success());
        let mut command = ended_with_this_thread(Path::new("/bin/sh"));
        // Opened for both ways, so that nobody waits for the other.
        command.args(["-c", "exec \"$1\" --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run \
                       --hide-scrollbars --user-data-dir=\"$2\" --remote-debugging-pipe about:blank 3<>\"$3\" 4<>\"$4\"", "sh"]);
        command.arg(program()).arg(dir.path().join("profile")).args(&pipes);
        command.env("HOME", dir.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("start the browser");
        let open = |path: &Path| fs::OpenOptions::new().read(true).write(true).open(path).expect("open a pipe");
        let (commands, mut reader) = (open(&pipes[0]), open(&pipes[1]));
        let (sender, messages) = channel();
        thread::spawn(move || {
            let (mut rest, mut chunk) = (Vec::new(), vec![0; 1 << 16]);
            while let Ok(read @ 1..) = reader.read(&mut chunk) {
                rest.extend_from_slice(&chunk[..read]);
                while let Some(end) = rest.iter().position(|byte| *byte == 0) {
                    let message: Vec<u8> = rest.drain(..=end).collect();
                    let message = serde_json::from_slice(&message[..end]).expect("JSON of the browser");
                    if sender.send(message).is_err() {
                        return;
                    }
                }
            }
        });
        let (session, events) = (None, VecDeque::new());
        let mut browser = Browser { child, commands, messages, events, session, next: 0, _dir: dir, _janitor: janitor };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}))["targetId"].clone();
        let attached = browser.call("Target.attachToTarget", json!({"targetId": target, "flatten": true}));
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// The page's size in CSS pixels, and light or dark.
    pub(crate) fn look_like(&mut self, width: u32, height: u32, scheme: &str) {
        let mobile = width < 600;
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile});
        self.call("Emulation.setDeviceMetricsOverride", size);
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", features);
    }

    pub(crate) fn open(&mut self, url: &str) {
        let opened = self.call("Page.navigate", json!({"url": url}));
        assert!(opened["errorText"].is_null(), "{url}: {opened}");
    }

    /// The value of a script.
    pub(crate) fn value(&mut self, script: &str) -> Value {
        let told =
            self.call("Runtime.evaluate", json!({"expression": script, "returnByValue": true, "awaitPromise": true}));
        assert!(told["exceptionDetails"].is_null(), "{script}: {told}");
        told["result"]["value"].clone()
    }

    /// Waits until a script's value is true.
    pub(crate) fn wait_until(&mut self, script: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.value(script) != json!(true) {
            let body = if Instant::now() > deadline { self.value("document.body.innerText") } else { Value::Null };
            assert!(Instant::now() < deadline, "never: {script}\n{body}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn screenshot(&mut self, file: &Path) {
        let shot = self.call("Page.captureScreenshot", json!({"format": "png", "captureBeyondViewport": true}));
        let bytes = STANDARD.decode(shot["data"].as_str().expect("a picture")).expect("base64");
        fs::write(file, bytes).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }

    /// What the page complained of since the last call: errors of scripts, of the console, of the security policy and of
    /// what could not be loaded.
    pub(crate) fn complaints(&mut self) -> Vec<String> {
        // All that came before this answer.
        self.value("1");
        let bad = |event: &Value| match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => matches!(event["params"]["type"].as_str(), Some("error" | "warning")),
            Some("Log.entryAdded") => matches!(event["params"]["entry"]["level"].as_str(), Some("error" | "warning")),
            Some("Network.responseReceived") => event["params"]["response"]["status"].as_u64() >= Some(400),
            Some("Network.loadingFailed") => event["params"]["canceled"] != json!(true),
            _ => false,
        };
        self.events.drain(..).filter(bad).map(|event| event.to_string()).collect()
    }

    /// Addresses of all that was loaded since the last call of this or `complaints`.
    pub(crate) fn requested(&mut self) -> Vec<String> {
        self.value("1");
        let url = |event: &Value| event["params"]["request"]["url"].as_str().map(str::to_owned);
        self.events
            .iter()
            .filter(|event| event["method"] == json!("Network.requestWillBeSent"))
            .filter_map(url)
            .collect()
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let mut command = json!({"id": self.next, "method": method, "params": params});
        if let Some(session) = &self.session {
            command["sessionId"] = json!(session);
        }
        self.commands.write_all(format!("{command}\0").as_bytes()).expect("send a command");
        loop {
            let message = self.messages.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{method}: no answer"));
            if message["id"] == json!(self.next) {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].clone();
            }
            self.events.push_back(message);
        }
    }
}
