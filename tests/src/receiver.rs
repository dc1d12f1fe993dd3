//! A receiver of webhooks that does what it is told to, and remembers what it got.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::netns::Namespace;
use crate::wait::eventually_some;

/// A request.
#[derive(Clone, Debug)]
pub struct Got {
    /// The path.
    pub path: String,
    /// The headers as they stand, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
    /// How it was answered.
    pub status: u16,
}

impl Got {
    /// A header.
    ///
    /// # Errors
    /// There is none.
    pub fn header(&self, name: &str) -> Result<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).with_context(|| format!("no {name} in {:?}", self.headers))
    }

    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

#[derive(Default)]
struct State {
    got: Vec<Got>,
    /// What the next requests are answered with; 200 when there is none left. 0: with nothing, for ever.
    statuses: VecDeque<u16>,
    /// What they are answered with before that, for paths that have this in them.
    always: Vec<(String, u16)>,
}

/// It listens until the process ends.
pub struct Receiver {
    state: Arc<Mutex<State>>,
    port: u16,
}

impl Receiver {
    /// Listens in a namespace; `port` 0 is any.
    ///
    /// # Errors
    /// The port is taken.
    pub fn start(namespace: &Namespace, port: u16) -> Result<Self> {
        let listener = namespace.run(|| TcpListener::bind(("127.0.0.1", port)))??;
        let port = listener.local_addr()?.port();
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                thread::spawn(move || answer(stream, &state));
            }
        });
        Ok(Self { state, port })
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Answers the next requests so, each with one of these.
    pub fn answer_next(&self, statuses: &[u16]) {
        self.lock().statuses.extend(statuses);
    }

    /// Answers all requests so whose path has `part` in it.
    pub fn answer_always(&self, part: &str, status: u16) {
        self.lock().always.push((part.to_owned(), status));
    }

    /// Everything so far.
    pub fn got(&self) -> Vec<Got> {
        self.lock().got.clone()
    }

    /// Waits for a request, past or future.
    ///
    /// # Errors
    /// There was none.
    pub fn wait_for(&self, what: &str, within: Duration, wanted: impl Fn(&Got) -> bool) -> Result<Got> {
        eventually_some(within, what, || self.got().into_iter().find(&wanted))
            .with_context(|| format!("it got {:#?}", self.got()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn answer(stream: TcpStream, state: &Mutex<State>) {
    // Who hangs up gets no answer.
    drop(try_answer(stream, state));
}

fn try_answer(mut stream: TcpStream, state: &Mutex<State>) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: u64 = length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
    let mut body = String::new();
    reader.by_ref().take(length).read_to_string(&mut body)?;
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let status = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let always =
            state.always.iter().find(|(part, _)| path.contains(part.as_str())).map(|(_, status)| *status);
        let status = always.or_else(|| state.statuses.pop_front()).unwrap_or(200);
        state.got.push(Got { path, headers, body, status });
        status
    };
    if status == 0 {
        // Until the other side gives up.
        reader.read_line(&mut first)?;
        return Ok(());
    }
    write!(
        stream,
        "HTTP/1.1 {status} Told\r\nlocation: /elsewhere\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    )?;
    Ok(())
}
