//! A browser without a screen, driven by the DevTools protocol over a pipe: no port and no driver.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::netns::Namespace;

/// How long the browser may take to do one thing.
const PATIENCE: Duration = Duration::from_secs(60);
/// It has no screen, asks no server of its own, and is thrown away.
const FLAGS: &str = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
     --disable-component-update --disable-sync --disable-dev-shm-usage --remote-debugging-pipe";

/// A browser with one page.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    sent: u64,
    session: Option<String>,
    complaints: Vec<String>,
}

impl Browser {
    /// Starts it in a namespace, with its files in an empty directory.
    pub fn start(namespace: &Namespace, dir: &Path) -> Result<Self> {
        // It speaks on descriptors 3 and 4.
        let script = format!(
            "exec chromium {FLAGS} --user-data-dir=\"$0\" 3<&0 4>&1 </dev/null >/dev/null 2>/dev/null"
        );
        let mut command = namespace.command("sh");
        command.args(["-c", &script]).arg(dir).env("HOME", dir);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("start chromium")?;
        let to = child.stdin.take().context("stdin is piped")?;
        let mut output = BufReader::new(child.stdout.take().context("stdout is piped")?);
        let (said, from) = channel();
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while output.read_until(0, &mut message).is_ok_and(|read| read > 0) {
                message.pop();
                let read = serde_json::from_slice(&message);
                if read.is_ok_and(|value| said.send(value).is_err()) {
                    return;
                }
                message.clear();
            }
        });
        let mut browser = Self { child, to, from, sent: 0, session: None, complaints: Vec::new() };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }))?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = browser.call("Target.attachToTarget", attach)?;
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            browser.call(domain, json!({}))?;
        }
        Ok(browser)
    }

    /// Has the browser do something.
    pub fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        self.sent += 1;
        let mut message = json!({ "id": self.sent, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.to.write_all(format!("{message}\0").as_bytes()).context("the browser has ended")?;
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let answer = self
                .from
                .recv_timeout(left)
                .with_context(|| format!("{method}: no answer of the browser"))?;
            if answer["id"] == self.sent {
                ensure!(answer.get("error").is_none(), "{method}: {}", answer["error"]);
                return Ok(answer["result"].clone());
            }
            self.note(&answer);
        }
    }

    /// What the page or the browser complains of: exceptions, what the policy forbids, what cannot be fetched.
    fn note(&mut self, event: &Value) {
        let params = &event["params"];
        match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => self.complaints.push(params["exceptionDetails"].to_string()),
            Some("Log.entryAdded") if params["entry"]["level"] == "error" => {
                self.complaints.push(params["entry"].to_string());
            }
            _ => {}
        }
    }

    /// What was complained of since this was asked last.
    pub fn complaints(&mut self) -> Result<Vec<String>> {
        // What came before the answer has been noted then.
        self.run("0")?;
        Ok(std::mem::take(&mut self.complaints))
    }

    /// Goes to a page.
    pub fn open(&mut self, url: &str) -> Result<()> {
        let went = self.call("Page.navigate", json!({ "url": url }))?;
        ensure!(went.get("errorText").is_none(), "{url}: {}", went["errorText"]);
        Ok(())
    }

    /// The value of an expression in the page; a promise is waited for.
    pub fn run(&mut self, script: &str) -> Result<Value> {
        let params = json!({ "expression": script, "awaitPromise": true, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", params)?;
        if let Some(error) = answer.get("exceptionDetails") {
            bail!("{error}");
        }
        Ok(answer["result"]["value"].clone())
    }

    /// Waits until an expression is true in the page.
    pub fn until(&mut self, script: &str, within: Duration) -> Result<()> {
        let until = Instant::now() + within;
        // While a page is loaded, there is none to ask.
        while !self.run(&format!("!!({script})")).is_ok_and(|value| value == true) {
            if Instant::now() > until {
                let page = self.run("document.body.innerText").unwrap_or_default();
                bail!(
                    "not within {within:?}: {script}\n{:?}\n{}",
                    self.complaints,
                    page.as_str().unwrap_or_default()
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// How large the window is, whether of a telephone, and whether dark colours are wanted.
    pub fn look(&mut self, width: u32, height: u32, is_phone: bool, is_dark: bool) -> Result<()> {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone });
        self.call("Emulation.setDeviceMetricsOverride", size)?;
        let scheme = if is_dark { "dark" } else { "light" };
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", features).map(drop)
    }

    /// Presses a key, as `KeyboardEvent.key` calls it.
    pub fn press(&mut self, key: &str) -> Result<()> {
        let code = if key == "Enter" { 13 } else { 0 };
        let text = if key == "Enter" { "\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let text = if kind == "keyDown" { text } else { "" };
            let event =
                json!({ "type": kind, "key": key, "code": key, "text": text, "windowsVirtualKeyCode": code });
            self.call("Input.dispatchKeyEvent", event)?;
        }
        Ok(())
    }

    /// Types a text where the focus is.
    pub fn enter(&mut self, text: &str) -> Result<()> {
        self.call("Input.insertText", json!({ "text": text })).map(drop)
    }

    /// Writes what is seen into a directory that `XPXE_SCREENSHOTS` names, if it does.
    pub fn screenshot(&mut self, name: &str) -> Result<()> {
        let Some(dir) = std::env::var_os("XPXE_SCREENSHOTS") else { return Ok(()) };
        let picture = self.call("Page.captureScreenshot", json!({ "format": "png" }))?;
        let bytes = from_base64(picture["data"].as_str().context("a picture")?);
        Ok(std::fs::write(Path::new(&dir).join(name), bytes)?)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn from_base64(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let digits: Vec<u8> = text.bytes().filter_map(digit).collect();
    let mut bytes = Vec::with_capacity(digits.len());
    for four in digits.chunks(4) {
        let number =
            four.iter().fold(0, |number, digit| number << 6 | u32::from(*digit)) << (6 * (4 - four.len()));
        bytes.extend(number.to_be_bytes().get(1..four.len()).unwrap_or_default());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::from_base64;

    #[test]
    fn pictures_come_as_they_were() {
        for (text, bytes) in [
            ("", &b""[..]),
            ("Zg==", b"f"),
            ("Zm8=", b"fo"),
            ("Zm9v", b"foo"),
            ("/+8AAQ==", &[255, 239, 0, 1]),
        ] {
            assert_eq!(from_base64(text), bytes, "{text}");
        }
    }
}
