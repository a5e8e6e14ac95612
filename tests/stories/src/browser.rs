//! A browser without a window, in which somebody reads and presses buttons.
//!
//! It is Chromium, told what to do over a pair of pipes in its own protocol.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use tests_support::{PATIENCE, Telling, wait_for};

/// A browser with one page in it. It is closed when it is dropped.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    /// What it is told goes here; without it, the browser ends.
    told: Option<ChildStdin>,
    heard: Receiver<Value>,
    page: String,
    last: u64,
    folder: tempfile::TempDir,
}

impl Browser {
    /// A browser that has never been anywhere.
    ///
    /// # Panics
    /// When Chromium does not start.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut start = Command::new("sh");
        // Chromium reads its third and writes its fourth descriptor.
        start.arg("-c").arg(
            "exec chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage \
             --no-first-run --disable-background-networking --user-data-dir=\"$0/profile\" \
             --remote-debugging-pipe 3<&0 4>&1 </dev/null >/dev/null 2>\"$0/log\"",
        );
        start.arg(folder.path()).env("HOME", folder.path());
        let mut child =
            start.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell");
        let (told, said) = (child.stdin.take(), child.stdout.take());
        let (sender, heard) = channel();
        let said = said.expect("a pipe");
        std::thread::spawn(move || listen(said, &sender));
        let mut browser = Self { child, told, heard, page: String::new(), last: 0, folder };
        let made = browser.does("Target.createTarget", json!({ "url": "about:blank" }));
        let at = json!({ "targetId": made["targetId"], "flatten": true });
        let session = browser.does("Target.attachToTarget", at);
        browser.page = session["sessionId"].as_str().expect("a session").to_owned();
        browser
    }

    /// Asks for something in the browser's protocol.
    fn does(&mut self, method: &str, parameters: Value) -> Value {
        self.last += 1;
        let mut message = json!({ "id": self.last, "method": method, "params": parameters });
        if !self.page.is_empty() {
            message["sessionId"] = self.page.clone().into();
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let pipe = self.told.as_mut().expect("it is open");
        if let Err(cause) = pipe.write_all(&bytes) {
            panic!("the browser is gone: {cause}\n{}", log());
        }
        loop {
            let Ok(answer) = self.heard.recv_timeout(PATIENCE) else {
                panic!("the browser says nothing to {method}:\n{}", log());
            };
            if answer["id"] == self.last {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
        }
    }

    /// Opens an address in the page, as if it were typed.
    pub fn opens(&mut self, url: &str) {
        self.does("Page.navigate", json!({ "url": url }));
    }

    /// What an expression is worth in the page, as text.
    pub fn finds(&mut self, expression: &str) -> String {
        let asked = json!({ "expression": format!("String({expression})") });
        let found = self.does("Runtime.evaluate", asked);
        found["result"]["value"].as_str().unwrap_or_default().to_owned()
    }

    /// Everything there is to read on the page.
    pub fn reads(&mut self) -> String {
        self.finds("document.body && document.body.innerText")
    }

    /// Reads until it says so; gives all that is said then.
    #[track_caller]
    pub fn reads_until(&mut self, wanted: &str) -> String {
        let mut all = String::new();
        let shown = std::cell::RefCell::new(String::new());
        wait_for(Telling(|| format!("`{wanted}` on the page: {}", shown.borrow())), || {
            all = self.reads();
            shown.borrow_mut().clone_from(&all);
            all.contains(wanted)
        });
        all
    }

    /// Presses the button that says so.
    pub fn presses(&mut self, label: &str) {
        let pressed = self.finds(&format!(
            "[...document.querySelectorAll('button')].filter(one => one.textContent === '{label}' \
             && !one.disabled).map(one => one.click()).length"
        ));
        assert_eq!(pressed, "1", "buttons that say `{label}`");
    }
}

impl Default for Browser {
    fn default() -> Self {
        Self::new()
    }
}

/// Hands over what the browser says, until it says nothing more.
fn listen(said: ChildStdout, sender: &Sender<Value>) {
    let mut said = BufReader::new(said);
    loop {
        let mut message = Vec::new();
        if said.read_until(0, &mut message).unwrap_or(0) == 0 {
            return;
        }
        message.pop();
        let Ok(message) = serde_json::from_slice(&message) else { continue };
        if sender.send(message).is_err() {
            return;
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // With its pipe it ends by itself, and its helpers with it.
        drop(self.told.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
