//! What an operator reads in the log, word for word. Each part of the daemon is driven through its steps, and the lines that
//! it leaves are those of `golden/lines.txt`: who changes that file changes what people's alarms look for.
//!
//! `XPXE_WRITE_GOLDEN=1` writes the file anew.

mod dhcp;
mod http;
mod others;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tracing::Level;

const LINES: &str = "src/daemon/golden/lines.txt";

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The lines that something leaves on this thread: level, fields and text. Without how long it took, and where the
/// boot directory is.
fn lines(act: impl FnOnce()) -> Vec<String> {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(Level::DEBUG)
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, act);
    let bytes = std::mem::take(&mut *log.0.lock().unwrap());
    // Other crates write what they like.
    let is_step = |line: &&str| line.contains(" step=");
    String::from_utf8(bytes).unwrap().lines().filter(is_step).map(without_accidents).collect()
}

fn without_accidents(line: &str) -> String {
    // How much of a file was on its way when its transfer broke.
    let is_broken = line.contains(" after ") && line.contains("vmlinuz");
    let words = line.split(' ').map(|word| match word.split_once('=') {
        Some(("seconds", _)) => "seconds=_",
        Some(("bytes", _)) if is_broken => "bytes=_",
        None if is_broken && word.starts_with(|c: char| c.is_ascii_digit()) && word != "30.0" => "_",
        _ if word.starts_with('/') => word.rfind("/boot").map_or(word, |at| &word[at..]),
        _ => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn every_step_of_a_boot_has_the_line_that_people_know() {
    let sections: [(&str, fn()); 16] = [
        ("addresses and boot files", dhcp::boots),
        ("refusals", dhcp::refusals),
        ("release and decline", dhcp::given_back),
        ("other servers, wrong places", dhcp::elsewhere),
        ("messages that are not answered", dhcp::dropped),
        ("pools", dhcp::pools),
        ("machines that are recognised", dhcp::recognised),
        ("loaders", dhcp::loaders),
        ("floods", dhcp::floods),
        ("TFTP", others::tftp),
        ("HTTP", http::all),
        ("images", others::images),
        ("clients of HTTPS", others::tls),
        ("operators, and this host", others::operators_and_host),
        ("machines of the registry", others::registry),
        ("what is on the wire beside this server", others::beside),
    ];
    let mut found = String::new();
    for (name, act) in sections {
        found += &format!("== {name}\n");
        for line in lines(act) {
            found += &format!("{line}\n");
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(LINES);
    if std::env::var_os("XPXE_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap();
    for (number, (found, known)) in found.lines().zip(known.lines()).enumerate() {
        assert_eq!(found, known, "line {}", number + 1);
    }
    assert_eq!(found.lines().count(), known.lines().count(), "{found}");
}
